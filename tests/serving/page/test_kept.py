"""What the browser keeps of the web page for a reload."""

import pytest
from support.servers import BlockedEngine, until
from support.web_page import add, choose_strength, kept, picture

pytestmark = pytest.mark.slow


def test_a_reload_keeps_the_queue_and_what_is_under_way(visit, live):
    engine = BlockedEngine()
    server = live({"toy": engine})
    engine.block()
    page = visit(server)
    choose_strength(page, 50)
    add(page, picture("a.png"), picture("b.png"), picture("c.png"))
    assert until(lambda: len(server.state.job_store) == 2)  # two at a time; the third waits in the browser
    page.set_input_files("#files", [picture("later.png")])
    expected = {"a.png": [True], "b.png": [True], "c.png": [False], "later.png": []}
    assert until(lambda: kept(page) == expected)  # it is written behind the page
    page.reload()
    page.wait_for_selector(":nth-match(.item, 4)")
    assert page.locator("#strength").input_value() == "50"
    engine.open.set()
    page.wait_for_selector(":nth-match(.item.done, 3)")
    assert page.locator(".item.done .name").all_inner_texts() == ["a.png", "b.png", "c.png"]
    assert page.locator(".item.ready .name").all_inner_texts() == ["later.png"]
    assert len(server.state.job_store) == 3  # nothing was sent twice
    page.reload()
    page.wait_for_selector(":nth-match(.item.done, 3)")
    page.wait_for_selector("#stage[data-settled=true]")
    page.click("text=Remove all")
    assert until(lambda: kept(page) == {} and len(server.state.job_store) == 0)


def test_what_the_server_did_not_keep_can_be_done_again(visit, live):
    server = live()
    page = visit(server)
    add(page, picture("a.png"))
    page.wait_for_selector("#stage[data-settled=true]")
    assert until(lambda: kept(page) == {"a.png": [True]})
    (job,) = server.state.job_store._items.values()
    server.state.job_store.remove(job)
    page.reload()
    page.wait_for_selector(".item.ready")
    page.click("#start")
    page.wait_for_selector(".item.done")


def test_another_tab_has_a_queue_of_its_own(visit, live):
    server = live()
    page = visit(server)
    page.set_input_files("#files", [picture("a.png")])
    assert until(lambda: kept(page) == {"a.png": []})
    other = page.context.new_page()
    other.goto(server.url)
    other.wait_for_selector("#sizes label", state="attached")
    other.wait_for_timeout(300)
    assert other.locator(".item").count() == 0
