"""Drain3 with its default parameters, in a Python of its own: raw lines in, the cluster of each out, both as JSON."""

import json
import logging
import sys
import time

from drain3 import TemplateMiner
from drain3.template_miner_config import TemplateMinerConfig


def main() -> None:
    """Read a list of lines, write the number of the cluster of each and the seconds that it took."""
    lines = json.load(sys.stdin)
    # It tells of each cluster that it opens.
    logging.disable(logging.INFO)
    miner = TemplateMiner(config=TemplateMinerConfig())
    began = time.perf_counter()
    clusters = [miner.add_log_message(line)["cluster_id"] for line in lines]
    json.dump({"clusters": clusters, "seconds": time.perf_counter() - began}, sys.stdout)


if __name__ == "__main__":
    main()
