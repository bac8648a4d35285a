"""The only code that imports lm_eval: tasks, backends, one evaluation, item features."""
