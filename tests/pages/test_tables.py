"""Tables: names of columns stand at their cells too, for cards on a narrow screen."""

import pytest

from engine.errors import ContractError
from engine.pages.tables import Column, table


def test_each_cell_but_the_title_names_its_column():
    page = table([Column("code"), Column("records & more", number=True), Column("why", wide=True)], [["<b>C50</b>", "8", ""]])
    assert '<thead><tr><th>code</th><th class="num">records &amp; more</th><th class="wide">why</th></tr></thead>' in page
    assert '<tr><td><b>C50</b></td><td class="num" data-label="records &amp; more">8</td>' in page


def test_a_row_of_another_length_is_loud():
    with pytest.raises(ContractError):
        table([Column("code"), Column("records")], [["C50"]])
