"""How fast the classifier serves: against the published inference, stage by stage, and what each saving costs."""
