"""Looking into a pipeline: what each pass prints and dumps, and where and why one goes wrong."""
