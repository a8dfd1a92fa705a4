"""Findings: their order and numbers, the chosen one, warnings and facts."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

import viewer_page as seen
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client import Client
from cxr_client.testing import FakeServer, default_answer
from viewer_process import ViewerProcess

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]
Serve = Callable[..., ViewerProcess]


def test_findings_are_listed_best_first_with_the_numbers_of_the_server(
    page: Page, client: Client, film: Path
) -> None:
    seen.choose(page, film)
    expected = client.predict(film, top_k=100).findings
    expect(seen.findings(page)).to_have_count(len(expected))
    for entry, finding in zip(seen.findings(page).all(), expected, strict=True):
        said = entry.text_content() or ""
        side = "above" if finding.above_threshold else "below"
        for part in (finding.label, f"{finding.score:.3f}", f"{side} the decision boundary"):
            assert part in said
        assert f"{finding.probability:.3f}" in said or "<0.001" in said
        assert f"{finding.threshold:.3f}" in said
    summary = page.get_by_role("complementary", name="Findings").get_by_role("status")
    expect(summary).to_contain_text("2 of 6 findings above the decision boundary")


def test_a_click_and_the_arrow_keys_switch_the_map_without_a_request(
    page: Page, film: Path
) -> None:
    seen.choose(page, film)
    labels = [entry.get_attribute("data-label") for entry in seen.findings(page).all()]
    seen.expect_map(page, "Cardiomegaly")
    first = seen.drawn(page)
    asked = seen.requests_of(page)
    seen.finding(page, "Effusion").click()
    seen.expect_map(page, "Effusion")
    second = seen.drawn(page)
    assert np.abs(first - second).max() > 60
    for key, label in (("ArrowDown", labels[2]), ("ArrowUp", labels[1]), ("ArrowUp", labels[0])):
        page.keyboard.press(key)
        assert label
        seen.expect_map(page, label)
        expect(seen.chosen(page)).to_be_focused()
    np.testing.assert_array_equal(seen.drawn(page), first)
    assert asked == []


def test_the_arrow_keys_switch_the_map_wherever_the_focus_is(page: Page, film: Path) -> None:
    seen.choose(page, film)
    page.get_by_role("button", name="Help").focus()
    page.keyboard.press("ArrowDown")
    seen.expect_map(page, "Effusion")


def test_the_chosen_finding_is_described(page: Page, client: Client, film: Path) -> None:
    seen.choose(page, film)
    seen.finding(page, "Effusion").click()
    explanation = client.explain(film, labels="Effusion")["Effusion"]
    described = page.get_by_role("region", name="The chosen finding")
    expect(described).to_contain_text(f"Logit{explanation.logit:.2f}")
    expect(described).to_contain_text("Probability (uncalibrated)")
    expect(described).to_contain_text("On phantoms only: AUC 1.000")
    assert explanation.peak
    expect(described).to_contain_text(
        f"x {explanation.peak.x_px:.0f}, y {explanation.peak.y_px:.0f} px"
    )


def test_a_finding_without_evidence_says_that_its_map_is_empty(page: Page, film: Path) -> None:
    seen.choose(page, film)
    seen.finding(page, "Pneumothorax").click()
    expect(seen.canvas(page)).to_have_accessible_name(re.compile("its map is empty"))


def test_a_weak_finding_is_marked_with_the_reason(
    open_page: Callable[..., Page], serve: Callable[..., ViewerProcess]
) -> None:
    description = default_answer(pb.DescribeModelRequest())
    assert isinstance(description, pb.DescribeModelResponse)
    weak = next(each for each in description.findings if each.label == "Nodule")
    weak.reliability = pb.RELIABILITY_WEAK
    weak.reliability_note = "Often missed."
    with FakeServer() as server:
        server.answer("DescribeModel", lambda _: description)
        page = open_page(serve(server.address).url)
        seen.choose(page, seen.payload("any.png", b"\x89PNG\r\n\x1a\n"))
        expect(seen.finding(page, "Nodule")).to_contain_text("weak")
        expect(seen.finding(page, "Effusion")).not_to_contain_text("weak")
        seen.finding(page, "Nodule").click()
        described = page.get_by_role("region", name="The chosen finding")
        expect(described).to_contain_text("Often missed.")


def test_of_a_refitted_model_the_fit_and_the_calibrated_probability_are_shown(
    open_page: Callable[..., Page], serve: Callable[..., ViewerProcess]
) -> None:
    description = default_answer(pb.DescribeModelRequest())
    assert isinstance(description, pb.DescribeModelResponse)
    description.refit.parent_name = "phantom"
    description.findings[0].refit.criterion = "youden"
    for name in ("sensitivity", "specificity"):
        figure = pb.Estimate(value=0.875, low=0.75, high=0.9375)
        getattr(description.findings[0].refit, name).CopyFrom(figure)

    def calibrated(request: pb.ExplainRequest) -> pb.ExplainResponse:
        answer = default_answer(request)
        assert isinstance(answer, pb.ExplainResponse)
        answer.explanations[0].finding.calibrated_probability = 0.25
        return answer

    with FakeServer() as server:
        server.answer("DescribeModel", lambda _: description)
        server.answer("Explain", calibrated)
        page = open_page(serve(server.address).url)
        seen.choose(page, seen.payload("any.png", b"\x89PNG\r\n\x1a\n"))
        seen.finding(page, "Effusion").click()
        described = page.get_by_role("region", name="The chosen finding")
        expect(described).to_contain_text("Probability (calibrated)0.250")
        expect(described).to_contain_text("Threshold fitted for youden: sensitivity 0.88 (0.75 to")
        seen.finding(page, "Nodule").click()
        expect(described.get_by_text("Probability (calibrated)")).to_be_hidden()
        expect(described).not_to_contain_text("fitted")
        page.get_by_text("Model", exact=True).click()
        expect(page.get_by_text("Refitted from")).to_be_visible()


def test_findings_that_come_before_the_model_are_marked_once_it_is_known(
    open_page: Callable[..., Page], serve: Callable[..., ViewerProcess]
) -> None:
    description = default_answer(pb.DescribeModelRequest())
    assert isinstance(description, pb.DescribeModelResponse)
    for finding in description.findings:
        finding.reliability = pb.RELIABILITY_WEAK
    with FakeServer() as server:
        server.answer("DescribeModel", lambda _: description)
        page = open_page(serve(server.address).url)
        held: list[Route] = []
        page.route("**/api/state", lambda route: held.append(route))
        page.reload()
        seen.choose(page, seen.payload("any.png", b"\x89PNG\r\n\x1a\n"))
        expect(seen.finding(page, "Nodule")).not_to_contain_text("weak")
        seen.finding(page, "Nodule").click()
        held.pop().continue_()
        expect(seen.finding(page, "Nodule")).to_contain_text("weak")
        expect(seen.chosen(page)).to_contain_text("Nodule")


def test_warnings_stand_above_the_scores(page: Page, client: Client, film: Path) -> None:
    seen.choose(page, film)
    warnings = page.get_by_role("list", name="Warnings").get_by_role("listitem")
    expected = [warning.message for warning in client.predict(film).warnings]
    assert expected
    assert warnings.all_inner_texts() == expected
    warning, first = warnings.first.bounding_box(), seen.findings(page).first.bounding_box()
    assert warning
    assert first
    assert warning["y"] + warning["height"] <= first["y"]


def test_the_page_tells_about_image_timing_and_model_with_hashes(
    page: Page, client: Client, folder: Path
) -> None:
    seen.choose(page, folder / "wide.jpg")
    for title, parts in {
        "Image": ("JPEG, 8 bits", "720 x 480 px", "480 x 480 px from x 120, y 0"),
        "Timing": ("ms",),
        "Model": (client.describe_model().model.weights_sha256, "densenet"),
        "Notices": ("0.5 is the decision boundary",),
    }.items():
        group = page.get_by_role("group").filter(has=page.get_by_text(title, exact=True))
        group.get_by_text(title, exact=True).click()
        for part in parts:
            expect(group).to_contain_text(part)


def test_a_dicom_film_can_be_read_as_stored(page: Page, client: Client, folder: Path) -> None:
    seen.choose(page, folder / "film.dcm")
    asked = seen.requests_of(page)
    page.get_by_text("Image", exact=True).click()
    page.get_by_label("DICOM values").select_option("Stored")
    expect(page.get_by_text("stored values")).to_be_visible()
    assert asked
    assert all("presentation=stored" in url for url in asked)


def test_the_notice_of_the_server_is_in_sight(page: Page, client: Client, film: Path) -> None:
    notice = client.predict(film).notice
    expect(page.locator("#notice")).to_have_text(notice)
    expect(page.locator("#notice")).to_be_in_viewport(ratio=1)
    seen.choose(page, film)
    expect(page.locator("#notice")).to_have_text(notice)
    with page.expect_response("**/api/state"):  # The page asks for it when it is looked at again.
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
    expect(page.locator("#notice")).to_have_text(notice)
    expect(page.locator("#notice")).to_be_in_viewport(ratio=1)


def test_no_text_of_the_page_has_a_percent_sign_or_calls_a_film_normal(
    page: Page, film: Path
) -> None:
    seen.choose(page, film)
    text = page.locator("body").text_content() or ""
    assert len(text) > 1000
    assert "%" not in text
    assert not re.search(r"\bnormal\b", text, re.I)
