"""The plugin for Neovim in deploy/editors, in Neovim itself."""

import subprocess
from pathlib import Path

PLUGIN = Path(__file__).resolve().parents[3] / "deploy" / "editors"
FILE = "def lines(path):\n    with open(path)\n        for line in f:\n            yield line\n"
SCRIPT = """
package.path = {folder!r} .. "/?.lua;" .. package.path
local unmask = require("unmask")
unmask.url = {url!r}
vim.o.virtualedit = "onemore"
vim.api.nvim_win_set_cursor(0, {{ 2, 19 }})
{before}
unmask.fill()
{after}
local filled = vim.wait(20000, function() return vim.bo.modified end)
if filled then vim.cmd("write") end
vim.cmd("qall!")
"""


def fill(url, folder, before="", after=""):
    """The file after the plugin has filled the hole at the end of its second line."""
    file, script = folder / "lines.py", folder / "script.lua"
    file.write_text(FILE)
    script.write_text(SCRIPT.format(folder=str(PLUGIN), url=url, before=before, after=after))
    subprocess.run(["nvim", "--clean", "--headless", "-n", file, "-c", f"luafile {script}"], check=True, timeout=60)
    return file.read_text()


def test_the_hole_at_the_cursor_is_filled(server, tmp_path):
    """Broken: the key does nothing, or the text lands elsewhere."""
    assert fill(server.url, tmp_path) == FILE.replace("open(path)", "open(path) as f:")


def test_a_second_request_takes_the_place_of_the_first(server, tmp_path):
    """Broken: an answer to what stood there a moment ago is put into the text."""
    assert fill(server.url, tmp_path, before="unmask.fill()") == FILE.replace("open(path)", "open(path) as f:")


def test_a_text_that_has_changed_keeps_what_was_typed(server, tmp_path):
    """Broken: an answer lands in the middle of what was typed meanwhile."""
    typed = 'vim.api.nvim_buf_set_lines(0, 0, 0, false, {"import os"})\nvim.wait(2000, function() return false end)'
    assert fill(server.url, tmp_path, after=typed) == "import os\n" + FILE


def test_typing_goes_on_behind_the_text(server, tmp_path):
    """Broken: what is typed next lands in front of what was filled."""
    cursor = tmp_path / "cursor"
    shown = f"vim.wait(20000, function() return vim.bo.modified end)\nvim.fn.writefile({{ vim.inspect(vim.api.nvim_win_get_cursor(0)) }}, {str(cursor)!r})"
    fill(server.url, tmp_path, after=shown)
    assert cursor.read_text().strip() == "{ 2, 25 }"
