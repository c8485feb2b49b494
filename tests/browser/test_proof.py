"""What the overview says of the proof: green only of what was proven, and lately."""

from playwright.sync_api import expect

from tests.browser.furnishing import event, post
from tests.browser.site import Site

SAYS = [
    # how the proof stands, the verdict and its state, the card
    ("state = 'good', swept_to = NULL, round_seconds = 1, redis_owed = NULL, level_at = now()", "ok", "All is well",
     "Nothing lost, nothing counted twice: counted again"),
    ("level_at = now() - interval '5 days'", "degraded", "The proof is not as it should be",
     "when it was counted last: counted again 5 d ago, to where the consumers stand"),
    ("state = 'differs', differences = 3", "down", "The proof found 3 differences", "3 differences between"),
    ("state = 'begun', differences = 0, level_at = NULL", "unknown", "not everything is proven yet", "not done yet"),
    ("state = 'good', level_at = now(), unproven = '{\"records\": 7, \"sums\": 1}', behind_records = 5", "ok",
     "All is well",
     "5 records behind where the consumers stand.7 records were gone from the log"),
]  # fmt: skip


def test_the_verdict_is_green_only_of_what_was_proven_lately(site: Site) -> None:
    post(site, event("ada", 30))
    page = site.open()
    verdict = page.locator(".verdict")
    card = page.locator("section.card", has=page.get_by_role("heading", name="Proof"))
    expect(verdict).to_contain_text("Nothing is amiss, but not everything is proven yet")
    expect(card).to_contain_text("no checkpoint here yet")
    with site.place.pg() as connection:
        topic = (site.place.topic,)
        connection.execute("INSERT INTO pipeline_proof_state (group_id, topic) VALUES ('any', %s)", topic)
        for standing, state, headline, told in SAYS:
            connection.execute(f"UPDATE pipeline_proof_state SET {standing} WHERE topic = %s".encode(), topic)
            expect(verdict).to_contain_text(headline)
            expect(page.locator(f".verdict.{state}")).to_have_count(1)
            expect(card).to_contain_text(told)
