"""Where computation happens: sending to a GPU (`gpu`), chunks of tasks that fit (`chunks`), settings of the process.

The lowest floor: imports no other room.
"""
