"""The commands: one module per subject; what each needs is imported when it runs."""
