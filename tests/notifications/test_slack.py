"""What is posted to Slack is what Slack takes: Block Kit within its limits, whatever the text."""

import datetime as dt
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from ml_platform.notifications.compute import Message, body
from tests.notifications.conftest import Teller

NOW = dt.datetime(2018, 6, 4, 8, tzinfo=dt.UTC)
texts = st.builds(
    lambda units, count: "".join(units) * count,
    st.lists(
        st.sampled_from(["&", "<", ">", "`", "\n", " ", "a", "é", "…", "😀", "\ud800"]) | st.text(max_size=9)
    ),
    st.sampled_from([1, 2, 50, 700]),
)


def posted(title: str = "Gate closed", text: str = "why", link: str = "") -> dict[str, Any]:
    message = Message(
        id="0123456789abcdef",
        event="gate_closed",
        about="x",
        title=title,
        text=text,
        asset="x",
        happened_at=NOW,
        link=link,
    )
    return json.loads(body(message, "slack", webhook="on_call").decode("ascii"))


def sections(payload: dict[str, Any]) -> list[str]:
    found = [block["text"]["text"] for block in payload["blocks"] if block["type"] == "section"]
    assert all(text.startswith("```") and text.endswith("```") for text in found)
    return [text[3:-3] for text in found]


def without_entities(text: str) -> str:
    return text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")


@given(title=texts, text=texts)
@example(title="", text="")
@example(title="&" * 150, text="&" * 9000)
def test_any_text_makes_a_payload_within_slack_s_limits(title: str, text: str) -> None:
    payload = posted(title, text)
    header, *between, context = payload["blocks"]
    assert set(payload) == {"text", "blocks"} and 1 <= len(payload["text"]) <= 3000
    assert len(payload["blocks"]) <= 50
    assert (header["type"], header["text"]["type"], context["type"]) == ("header", "plain_text", "context")
    assert 1 <= len(header["text"]["text"]) <= 150
    for block in between:
        assert (block["type"], block["text"]["type"]) == ("section", "mrkdwn")
        assert 1 <= len(block["text"]["text"]) <= 3000
    for told in [payload["text"], header["text"]["text"], *sections(payload)]:
        assert not set(without_entities(told)) & {"<", ">", "&"}, "no character is left that means something"
    assert "`" not in "".join(sections(payload))


@given(texts)
def test_a_text_that_fits_comes_through_whole(text: str) -> None:
    shown = sections(posted(text=text))
    wanted = text.replace("`", "'")
    if "… cut; the whole text" not in "".join(shown):
        assert "".join(map(_plain, shown)).split() == wanted.split()
    else:
        kept = "".join(map(_plain, shown)).partition("\n… cut; the whole text")[0]
        assert (
            wanted.replace("\n", "")
            .replace(" ", "")
            .startswith(kept.replace("\n", "").replace(" ", "")[:2000])
        )


def _plain(escaped: str) -> str:
    return escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def test_lines_stay_whole_where_they_can() -> None:
    lines = [f"line {number} " + "x" * 90 for number in range(40)]
    first, second = sections(posted(text="\n".join(lines)))
    assert first.splitlines() + second.splitlines() == lines


def test_a_link_opens_the_ui() -> None:
    context = posted(link="https://dagster.example.com/runs/1?a=b&c=d")["blocks"][-1]
    assert (
        "<https://dagster.example.com/runs/1?a=b&amp;c=d|open in Dagster>" in context["elements"][0]["text"]
    )


def test_a_slack_webhook_gets_the_refusal_in_blocks(teller: Teller) -> None:
    slack = teller.declared(format="slack")
    slack.settings = slack.settings.model_copy(update={"ui": "https://dagster.example.com/"})
    slack.evaluated(slack.toys.raw, "2018-06-02", observed="a < b & c")
    [told] = slack.look()
    assert told["text"] == f"Gate closed: {slack.toys.raw} [2018-06-02] quality"
    assert "quality: a &lt; b &amp; c (required: " in sections(told)[0]
    assert "<https://dagster.example.com/runs/" in told["blocks"][-1]["elements"][0]["text"]
