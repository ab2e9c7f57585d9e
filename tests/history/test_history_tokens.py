"""The token estimate, against what the real vocabularies count."""

from __future__ import annotations

import pytest

from flask_conversations.history import estimate_tokens

# text, tokens in cl100k, tokens in o200k (counted once with the npm package gpt-tokenizer)
MEASURED = {
    "english": ("The committee met on Tuesday morning to discuss the proposed changes.", 12, 12),
    "python": (
        "def get(self, key: str) -> Row:\n    found = self.rows.get(key)\n"
        "    if found is None:\n        raise NotFound\n    return found\n",
        33,
        34,
    ),
    "json": ('[{"id": 17, "name": "Widget", "price": 19.99, "tags": ["new", "sale"], "available": true}]', 35, 35),
    "german": ("Die Fahrgäste können ihre Fahrkarten zurückgeben oder auf die Bahn umsteigen.", 21, 17),
    "chinese": ("今天早上委员会开会讨论城市分区法的拟议修改是否会影响沿河的小企业。", 38, 23),
    "japanese": ("今朝、委員会は市の区画法の変更案について話し合いました。", 30, 21),
    "korean": ("위원회는 화요일 아침에 모여 도시 구역법 변경안을 논의했다.", 34, 20),
    "russian": ("Комитет собрался во вторник утром, чтобы обсудить изменения городских законов.", 35, 20),
    "greek": ("Η επιτροπή συνεδρίασε το πρωί της Τρίτης για να συζητήσει τις αλλαγές.", 62, 24),
    "arabic": ("اجتمعت اللجنة صباح يوم الثلاثاء لمناقشة التغييرات المقترحة.", 43, 17),
    "hebrew": ("הוועדה התכנסה ביום שלישי בבוקר כדי לדון בשינויים.", 45, 18),
    "hindi": ("समिति की बैठक मंगलवार की सुबह हुई।", 36, 9),
    "thai": ("คณะกรรมการประชุมกันเมื่อเช้าวันอังคาร", 29, 14),
    "vietnamese": ("Ủy ban đã họp vào sáng thứ Ba để thảo luận những thay đổi.", 29, 18),
    "amharic": ("ኮሚቴው ማክሰኞ ጠዋት ተገናኝቶ የከተማዋን ህጎች ለውጥ ተወያየ።", 99, 73),
    "emoji": ("Great job! 🎉🎉 See you tomorrow 👋😀 🚀🔥💯", 24, 18),
    "hex": ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", 43, 43),
    "digits": ("1234567890 3.14159265358979 2026-11-20T09:16:00Z", 26, 26),
    "one long word": ("a" * 1000, 125, 125),
}


def test_the_estimate_is_never_four_times_off(subtests: pytest.Subtests) -> None:
    """In neither direction, for either vocabulary."""
    for sample, (text, older, newer) in MEASURED.items():
        with subtests.test(sample):
            assert max(older, newer) / 4 < estimate_tokens(text) < min(older, newer) * 4


def test_no_text_costs_nothing() -> None:
    """An empty message has no tokens."""
    assert estimate_tokens("") == 0
