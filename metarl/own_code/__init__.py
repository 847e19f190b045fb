"""The user's own code: families, environments and agents named on a command line.

`modules` imports and calls it, `guest` undoes its changes to this process, `generators` those to global random numbers,
`safe_path` keeps the working folder out of the path of new processes, and `errors` has the exception for its errors.
Imports nothing of metarl but `names`.
"""
