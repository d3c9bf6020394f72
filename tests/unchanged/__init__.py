"""Whether a user sees anything change: the same commands by an earlier commit and by this tree, on one machine in one go.

    python -m tests.unchanged --quick                          # some minutes
    python -m tests.unchanged --output <folder> --keep         # everything
    python -m tests.unchanged --only run,evidence --sizes demo=50,tcga=20

`cases.py` has the commands, `allowed.py` what may differ and why, `compare.py` how two folders of results are compared.
"""
