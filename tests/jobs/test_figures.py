"""What a terminal shows of entities and of findings; of codes see the tests of the job."""

import re

from jobs._figures import main_figures, wrong_figures
from tests.evaluation.test_entities import evaluated
from tests.evaluation.test_findings import figures as of_findings
from tests.evaluation.test_findings import studies


def test_entities():
    found = evaluated(types={"A": "Disease"})
    message = main_figures(found, [], 0.95)
    assert message.startswith(
        "6 records compared, 6 marked texts; 24 mentions marked and 24 found, of types that were looked for"
    )
    lines = re.findall(r"^  (\S.*?) +([\d.]+%)(?:  (\(.*\)))?$", message, re.MULTILINE)
    assert lines == [
        ("found of what is marked", "25.0%", ""),
        ("right of what was found", "25.0%", ""),
        ("F1, exact", "25.0%", ""),
        ("F1, any overlap", "50.0%", ""),
        ("begins right, where they overlap", "50.0%", ""),
        ("ends right, where they overlap", "100.0%", "(54.1% to 100.0%)"),
        ("calibration error of the scores", "50.0%", ""),
        ("evidence: share on words of the text", "60.0%", ""),
        ("B", "0.0%", "(0.0% to 62.9%)"),
        ("Disease", "40.0%", ""),
    ]
    assert wrong_figures(found) == "Wrong mentions: 6 missed, 6 found where none is, 6 of another type, 6 with other bounds."


def test_findings():
    rows, gold = studies()
    found = of_findings(rows, gold)
    message = main_figures(found, [], 0.95)
    assert message.splitlines()[0] == "24 studies compared, 25 rows in the gold table."
    assert "  macro AUC                                 62.5%" in message and message.endswith("is in no mean.")
    assert wrong_figures(found) == "Wrong answers: fluid 12 (0 decided without a person), heart 12 (0 decided without a person)."
