"""The verbs of the command `targen`."""

VERBS = {  # verb: its module, and what it does
    "run": ("targen.run", "the whole run: generate, train, evaluate, report"),
    "plan": ("targen.run", "what a run would ask, train and cost; calls nothing (plan=true)"),
    "new-task": ("targen.new_task", "a commented file for a task of your own"),
    "generate": ("targen.generate", "writes the synthetic data set of every task"),
    "contexts": ("targen.contexts", "writes the contexts that all shards share, before them"),
    "merge": ("targen.merge", "joins the shards of a generation"),
    "train": ("train.run", "finetunes every cell of the grid"),
    "launch": ("train.launch", "the same in several processes: targen launch ddp ..., or launch ddp evaluate ..."),
    "evaluate": ("eval.run", "scores every trained cell on the evaluation data"),
    "scores": ("eval.scores", "merges scores that were made one cell at a time"),
    "analyze": ("eval.analyze", "measures properties of data sets"),
    "study": ("eval.study", "what makes synthetic data good: small students taught several sets"),
    "report": ("eval.report", "the tables, the figures and the page of a run, or of several"),
    "fetch": ("eval.fetch", "downloads what a run needs into the Hub's cache"),
    "submit": ("slurm.submit", "submits a grid to SLURM; --dry-run only prints the jobs"),
    "status": ("slurm.status", "the state of a submitted grid"),
    "resubmit": ("slurm.resubmit", "submits again what is missing or has failed"),
    "publish": ("targen.publish", "uploads a synthetic data set to the Hugging Face Hub"),
}
