"""Parts of `metarl tune`: ranges of settings, trials as processes, the study that Optuna keeps, and the report."""
