"""What pyproject.toml cannot say: the long description is README.md without the pictures and links of a clone."""

import re
from pathlib import Path

from setuptools import setup

text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
text = re.sub(r"!\[([^]]*)\]\((?!https?:)[^)]*\)", r"*\1 (a picture in the source distribution).*", text)
text = re.sub(r"\[([^]]*)\]\((?!https?:|#)([^)]*)\)", r"\1 (`\2`)", text)
text = re.sub(r"(\S+) \(`\1`\)", r"`\1`", text)  # a link that is called as its file
setup(long_description=text, long_description_content_type="text/markdown")
