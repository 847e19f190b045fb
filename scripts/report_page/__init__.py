"""The page of `metarl report`: evaluations, charts and sections of a self-contained HTML file."""
