"""Parts of `metarl reproduce`: the plan of a table, its trainings, its numbers, its page, and the check of the docs."""
