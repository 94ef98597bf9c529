# SPDX-License-Identifier: Apache-2.0
"""Runs GRUB's script as far as its menu: variables, functions and conditions, but no device and no key.

After script/execute.c and normal/context.c of GRUB 2. What a script asks that only the running GRUB knows (a
key, an SMBIOS string) is answered by a guess, and that it was asked is remembered: a run with the other
guess then tells whether it matters.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tdx_headroom.boots.grub.commands import COMMANDS, call_unlisted
from tdx_headroom.boots.grub.default import Dialect
from tdx_headroom.boots.grub.script import Command, For, If, Loop, Script, Statement, parse
from tdx_headroom.boots.grub.signals import Break, Return
from tdx_headroom.boots.grub.state import Context, Loaded
from tdx_headroom.boots.grub.words import GrubError, expanded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tdx_headroom.boots.grub.blocks import Blocks
    from tdx_headroom.boots.grub.paths import Disk
    from tdx_headroom.boots.grub.script import Block
    from tdx_headroom.boots.grub.state import Item, Settings
    from tdx_headroom.boots.grub.words import Word

    Builtin = Callable[["Machine", list[str], Block | None], int]
    """A command of GRUB's own: its arguments, the block behind them, and the status that it gives."""

MAX_STEPS = 100_000
MAX_VOLUME = 16 << 20
"""Characters that all commands together may expand to, or look at."""
MAX_DEPTH = 120
"""Functions, blocks and files inside one another."""
MAX_SOURCES = 16
MAX_ITEMS = 4096
MAX_FILES = 64

_FEATURES = (
    "chainloader_bpb",
    "ntldr",
    "platform_search_hint",
    "default_font_path",
    "all_video_module",
    "menuentry_id",
    "menuentry_options",
    "200_final",
    "nativedisk_cmd",
    "timeout_style",
)


class Machine:
    """A GRUB that runs scripts.

    Args:
        disk: the host's files.
        blocks: the environment blocks among them.
        settings: what is known of this GRUB.
    """

    def __init__(self, disk: Disk, blocks: Blocks, settings: Settings) -> None:
        self.disk = disk
        self.blocks = blocks
        self.settings = settings
        self.context = _beginning(settings.platform)
        self.parameters: Sequence[str] = ()
        """Those of the function or menu entry that runs."""
        self.functions: dict[str, Script] = {}
        self.loaded = Loaded()
        self.in_entry = False
        self.doubts: dict[str, None] = {}
        """Why the outcome is not known, a clause each, in order."""
        self.notes: dict[str, None] = {}
        """What else is to be told, the same."""
        self.asked: str | None = None
        """Why something could not be answered, the first of it, a clause."""
        self.loops = 0
        self.calls = 0
        self.loopbacks: set[str] = set()
        self.bls: list[Item] = []
        self.bls_shown: set[str] = set()
        self._steps = 0
        self._volume = 0
        self._depth = 0
        self._sources: list[str] = []

    def value(self, name: str) -> str | None:
        """The value of a variable; None: not set."""
        found = self.context.variables.get(name)
        if found is None and name in ("grub_platform", "grub_cpu"):
            return _of_platform("efi" if self.unsure(name) else "pc")[name]
        return found

    def set(self, name: str, value: str) -> None:
        """Set a variable."""
        self.context.variables[name] = value

    def unset(self, name: str) -> None:
        """Forget a variable."""
        self.context.variables.pop(name, None)

    def unsure(self, what: str) -> bool:
        """The answer to a question that only the running GRUB can answer."""
        return self.unanswered(f"{self.place} asks for {what}, which is not known here")

    def unanswered(self, reason: str) -> bool:
        """The same with the clause why."""
        self.asked = self.asked or reason
        return self.settings.guess

    def doubt(self, reason: str) -> None:
        """Remember why the outcome is not known."""
        self.doubts[reason] = None

    def note(self, what: str) -> None:
        """Remember something that is to be told."""
        self.notes[what] = None

    def add(self, item: Item) -> None:
        """Add a line to the menu.

        Raises:
            GrubError: there are absurdly many.
        """
        if len(self.context.menu) >= MAX_ITEMS:
            raise GrubError(f"it has more than {MAX_ITEMS} menu entries")
        self.context.menu.append(item)

    def run_file(self, relative: str) -> None:
        """Run a configuration file of the host.

        Raises:
            GrubError: it cannot be followed.
            SourceError: it cannot be read.
        """
        if len(self._sources) >= MAX_SOURCES:
            raise GrubError(f"files include one another more than {MAX_SOURCES} deep")
        script = self._parsed(relative)
        variables = self.context.variables
        before = {name: variables.get(name) for name in ("config_file", "config_directory")}
        self.set("config_file", f"(host)/{relative}")
        self.set("config_directory", f"(host)/{relative.rpartition('/')[0]}")
        self._sources.append(relative)
        try:
            self.run(script)
        finally:
            self._sources.pop()
        # Not where a menu is shown or a kernel started in it: then this file's variables stay.
        for name, value in before.items():
            if value is None:
                self.unset(name)
            else:
                self.set(name, value)

    def _parsed(self, relative: str) -> Script:
        scripts = self.disk.scripts
        if relative not in scripts:
            if len(scripts) >= MAX_FILES:
                raise GrubError(f"it includes more than {MAX_FILES} files")
            text = self.disk.text(relative)
            try:
                scripts[relative] = parse(text)
            except GrubError as error:
                raise GrubError(error.reason, relative) from None
        return scripts[relative]

    def run(self, script: Script) -> int:
        """Run commands; the status of the last one, 0 for success.

        Raises:
            GrubError: they cannot be followed.
        """
        if self._depth >= MAX_DEPTH:
            raise GrubError("its commands call one another without end")
        self._depth += 1
        status = 0
        try:
            for statement in script:
                status = self._statement(statement)
                self.set("?", str(status))
        finally:
            self._depth -= 1
        return status

    def call(self, body: Script, parameters: Sequence[str]) -> int:
        """Run a function."""
        outer, loops = self.parameters, self.loops
        self.parameters, self.loops = parameters, 0
        self.calls += 1
        try:
            return self.run(body)
        except Return as ended:
            return ended.status
        finally:
            self.calls -= 1
            self.parameters, self.loops = outer, loops

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Run something whose changes are forgotten afterwards, as a menu entry's are here."""
        kept = (self.context, self.parameters, self.loaded, self.doubts, self.in_entry, self.loopbacks)
        self.context = self.context.copy()
        self.doubts, self.in_entry, self.loaded = {}, True, Loaded()
        self.loopbacks = set(self.loopbacks)
        try:
            yield
        finally:
            self.context, self.parameters, self.loaded, self.doubts, self.in_entry, self.loopbacks = kept

    def load(self, **changes: object) -> None:
        """Change what is loaded."""
        self.loaded = replace(self.loaded, **changes)  # type: ignore[arg-type]

    def expand(self, words: Sequence[Word]) -> list[str]:
        """What becomes of the words of a command."""
        result = expanded(words, self, hex_escapes=self.settings.dialect is Dialect.RED_HAT)
        self.spend(sum(len(word) + 1 for word in result.words))
        if result.pattern is not None:
            self.doubt(f"{self.place}: the pattern {result.pattern} is not followed")
        return result.words

    def spend(self, volume: int) -> None:
        """Count work that no step stands for.

        Args:
            volume: as many characters as take as long.

        Raises:
            GrubError: it is absurdly much.
        """
        self._volume += volume
        if self._volume > MAX_VOLUME:
            raise GrubError("its commands run on and on")

    @property
    def place(self) -> str:
        """The file that runs."""
        return self._sources[-1] if self._sources else "the menu entry"

    def _statement(self, statement: Statement) -> int:
        self._step()
        if isinstance(statement, Command):
            return self._command(statement)
        if isinstance(statement, If):
            # The last status decides, as ``$?``.
            chosen = statement.then if self.run(statement.condition) == 0 else statement.otherwise
            return self.run(chosen)
        if isinstance(statement, For):
            return self._for(statement)
        if isinstance(statement, Loop):
            return self._while(statement)
        self.functions[statement.name] = statement.body
        return 0

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise GrubError("its commands run on and on")

    def _command(self, command: Command) -> int:
        words = self.expand(command.words)
        invert = words[:1] == ["!"]
        if invert:
            words = words[1:]
        if not words:
            return int(invert)
        status = self._called(words[0], words[1:], command.block)
        return status if not invert else int(status == 0)

    def _called(self, name: str, arguments: list[str], block: Block | None) -> int:
        if (known := COMMANDS.get(name)) is not None:
            return known(self, arguments, block)
        if block is not None:
            arguments = [*arguments, f"{{{block.raw}}}"]
        if (body := self.functions.get(name)) is not None:
            return self.call(body, arguments)
        return call_unlisted(self, name, arguments)

    def _for(self, loop: For) -> int:
        status = 0
        for value in self.expand(loop.words):
            self._step()
            self.set(loop.name, value)
            status, over = self._turn(loop.body)
            if over:
                break
        return status

    def _while(self, loop: Loop) -> int:
        while True:
            self._step()
            status = self.run(loop.condition)
            if (status == 0) is loop.until:
                return status
            status, over = self._turn(loop.body)
            if over:
                return status

    def _turn(self, body: Script) -> tuple[int, bool]:
        """One turn of a loop: its status, and whether it was the last."""
        self.loops += 1
        try:
            return self.run(body), False
        except Break as left:
            if left.levels > 1:
                raise Break(left.levels - 1, again=left.again) from None
            return 0, not left.again
        finally:
            self.loops -= 1


def _beginning(platform: str | None) -> Context:
    """The variables that are set and exported before any script runs."""
    known = {f"feature_{name}": "y" for name in _FEATURES} | {"root": "disk", "boot": "disk"}
    if platform is not None:
        known |= _of_platform(platform)
    return Context(known, set(known) | {"prefix", "config_file", "config_directory", "chosen"})


def _of_platform(platform: str) -> dict[str, str]:
    return {"grub_platform": platform, "grub_cpu": "x86_64" if platform == "efi" else "i386"}
