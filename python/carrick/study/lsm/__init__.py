"""Language-specific model merging as in the paper: its models, data sets and hyperparameters."""
