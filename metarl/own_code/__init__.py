"""Code of the user's own that a command line names.

Imports it (`modules`), calls it without letting it change this process (`guest`), keeps the working folder out of the
path of new processes (`safe_path`), and turns what it raises into one error with its own traceback (`errors`).
Imports nothing of metarl but `names`.
"""
