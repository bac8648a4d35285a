"""One model or several in lockstep: scores of texts and generations, free of lm_eval."""
