"""What was shown of a case, to whom and when: a record says so, whoever looks and however."""

from fedlens.review.contract import Role


def test_where_maps_wait_the_trail_says_when_they_were_looked_at(browser_of, text_of):
    browser = browser_of(Role.REVIEWER, blind_first=False)
    case = browser.take_next()
    browser.get(f"/cases/{case}?opacity=0")
    assert "with the maps of grad-cam and gradient off" in text_of(browser.get(f"/cases/{case}"))
    browser.get(f"/cases/{case}?opacity=90")
    browser.get(f"/cases/{case}?opacity=30")
    shown = [one for one in browser.records(case) if one.kind == "revealed"]
    assert [one.content["displayed"]["opacity"] for one in shown] == [0.0, 0.9]
    words = text_of(browser.get(f"/cases/{case}?opacity=30"))
    assert "was shown the prediction with grad-cam and gradient" in words
    browser.post(f"/cases/{case}/decide", choice="accept")
    (decided,) = [one for one in browser.records(case) if one.kind == "decided"]
    assert decided.content["revealed"] == shown[0].time
    assert decided.content["map_revealed"] == shown[1].time


def test_a_map_that_stayed_off_was_not_looked_at(browser_of):
    browser = browser_of(Role.REVIEWER, blind_first=False)
    case = browser.take_next()
    browser.post(f"/cases/{case}/decide", choice="accept")
    (decided,) = [one for one in browser.records(case) if one.kind == "decided"]
    assert decided.content["revealed"] is not None
    assert decided.content["map_revealed"] is None
