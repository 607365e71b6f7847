"""Study 2: a task adapter of one language and language adapters trained beside it, merged and aligned (MLM)."""
