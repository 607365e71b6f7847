"""Fine-tuning: adapters and whole models by typed recipes, each with a record of data, time and cost.

Importing this loads neither torch nor any trainer.
"""

from carrick.train.run import TrainReport, train

__all__ = ["TrainReport", "train"]
