"""MAKE by Hugging Face conventions: configuration, processor, model, objectives.

Nothing is imported here, so that `models.make.text` stays light for processes that need no torch.
"""
