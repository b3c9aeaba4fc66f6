"""Warnings of other packages that are known to be harmless here."""

import logging
import warnings


def quieten() -> None:
    """Silence them, so that users notice the others."""
    for remark in (
        ".*isinstance.treespec, LeafSpec.*",  # inside Lightning
        ".*Your `IterableDataset` has `__len__` defined.*",  # the length is exact, and there are no workers
        ".*does not have many workers which may be a bottleneck.*",  # episodes are played, not read from files
        ".*LightningCLI's args parameter is intended.*",  # some commands pass arguments of their own
        ".*Checkpoint directory .* exists and is not empty.*",  # the run folder is created early
        ".*sync_dist=True.*",  # logged values are the same on all ranks, see `omg_lightning.ranks`
        ".*Using `DistributedSampler` with the dataloaders.*",  # the ranks split evaluations themselves
        ".*checkpoint that ended before the epoch ended.*",  # the generator of the batches is in the checkpoint
    ):
        warnings.filterwarnings("ignore", remark)
    for name in ("utilities.rank_zero", "trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"lightning.pytorch.{name}").addFilter(
            lambda record: not any(word in record.getMessage() for word in ("litlogger", "`weights_only` was not set"))
        )
