# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tdx_headroom.boots.kernels.config import ConfigReading, KernelConfig
from tdx_headroom.boots.kernels.marks import ImageMarks, Mark
from tdx_headroom.boots.kernels.module import ModuleReading
from tdx_headroom.boots.kernels.traits import MarksReading, traits_of
from tdx_headroom.facts.boots import KernelTraits, Starts, TraitsFrom

M = Mark
BUILT = (M.MESSAGES, M.KEYIDS)
BY_KVM = (*BUILT, M.INITIALIZED)
NO_CONFIG = ConfigReading(unread=("boot/config-x: there is no configuration",))
NO_MODULE = ModuleReading(unread=("lib/modules/x: there is no kvm-intel",))


def config(**options: object) -> ConfigReading:
    values = {"tdx_host": True, "kvm_intel": "m", "hibernation": False, **options}
    return ConfigReading("boot/config-x", KernelConfig(**values))  # type: ignore[arg-type]


def image(*found: Mark, exports: bool = True, types: bool = True) -> MarksReading:
    return MarksReading("boot/vmlinuz-x", ImageMarks(frozenset(found), exports, types))


def module(*, parameter: bool) -> ModuleReading:
    return ModuleReading("lib/modules/x/kvm-intel.ko", parameter, built_in=False)


WITH, WITHOUT = module(parameter=True), module(parameter=False)


def starts(
    conf: ConfigReading, mod: ModuleReading | None, img: MarksReading | None
) -> tuple[Starts, TraitsFrom | None]:
    traits = traits_of(conf, mod, img)
    assert (traits.starts is Starts.UNKNOWN) <= bool(traits.unread)
    return traits.starts, traits.known_from


IMAGE = TraitsFrom.IMAGE


@pytest.mark.parametrize(
    ("conf", "mod", "marks", "expected"),
    [
        # 6.12 of the kernel test: KVM is built in, and has no parameter
        (config(kvm_intel="y"), NO_MODULE, (*BY_KVM, M.ENABLE), Starts.NEVER),
        # 6.8 to 6.15 with KVM as a module
        (config(), WITHOUT, (*BY_KVM, M.ENABLE), Starts.NEVER),
        (NO_CONFIG, WITHOUT, (*BY_KVM, M.ENABLE), Starts.NEVER),
        # 6.16 to 7.0, EL 9.7
        (config(kvm_intel_tdx=True), WITH, (*BY_KVM, M.ENABLE), Starts.KVM_LOAD),
        (config(kvm_intel_tdx=True), NO_MODULE, (*BY_KVM, M.ENABLE), Starts.KVM_LOAD),
        (NO_CONFIG, WITH, (*BY_KVM, M.ENABLE), Starts.KVM_LOAD),
        # with a KVM that is built without TDX
        (config(kvm_intel_tdx=False), NO_MODULE, (*BY_KVM, M.ENABLE), Starts.NEVER),
        (config(kvm_intel_tdx=False), WITHOUT, (*BY_KVM, M.ENABLE), Starts.NEVER),
        # built in: 6.18 and later export nothing for it
        (config(kvm_intel="y", kvm_intel_tdx=True), NO_MODULE, (*BY_KVM, M.KVM_PARAMETER), Starts.KVM_LOAD),
        (NO_CONFIG, NO_MODULE, (*BY_KVM, M.KVM_PARAMETER), Starts.KVM_LOAD),
        # Ubuntu's 6.8 -intel, SLE 15 SP6: a KVM of their own
        (config(), WITH, (*BY_KVM, M.ENABLE), Starts.KVM_LOAD),
        # 7.1 and later, whatever KVM has
        (config(kvm_intel_tdx=True), WITH, (*BUILT, M.INITIALIZED_AT_BOOT), Starts.BOOT),
        (config(kvm_intel_tdx=False), NO_MODULE, (*BUILT, M.INITIALIZED_AT_BOOT), Starts.BOOT),
        (NO_CONFIG, NO_MODULE, (*BUILT, M.INITIALIZED_AT_BOOT), Starts.BOOT),
        # not built
        (NO_CONFIG, NO_MODULE, (M.MESSAGES,), Starts.NOT_BUILT),
    ],
)  # fmt: skip
def test_classes(conf: ConfigReading, mod: ModuleReading, marks: tuple[Mark, ...], expected: Starts) -> None:
    """Every class of the table is told from what its kernels have."""
    assert starts(conf, mod, image(*marks)) == (expected, IMAGE)


@pytest.mark.parametrize(
    ("conf", "mod", "marks"),
    [
        # without a look at KVM a distribution's own is not ruled out
        (config(), NO_MODULE, (*BY_KVM, M.ENABLE)),
        (NO_CONFIG, NO_MODULE, (*BY_KVM, M.ENABLE)),
        (config(), None, (*BY_KVM, M.ENABLE)),
        # contradictions
        (config(), WITHOUT, (M.MESSAGES,)),
        (NO_CONFIG, WITHOUT, (M.MESSAGES, M.INITIALIZED)),
        (NO_CONFIG, NO_MODULE, (M.MESSAGES, M.CMR_WALK)),
        (config(), WITH, BUILT),
        (config(), WITH, (*BY_KVM, M.INITIALIZED_AT_BOOT)),
        (config(), WITH, (*BUILT, M.INITIALIZED_AT_BOOT, M.ENABLE)),
        (config(kvm_intel_tdx=True), WITHOUT, (*BY_KVM, M.ENABLE)),
        (config(kvm_intel_tdx=False), WITH, (*BY_KVM, M.ENABLE)),
        # nobody can start it, as far as is seen
        (config(), WITH, BY_KVM),
        (config(), WITHOUT, BY_KVM),
    ],
)
def test_unknown(conf: ConfigReading, mod: ModuleReading | None, marks: tuple[Mark, ...]) -> None:
    """What files do not tell, or tell differently, is unknown, and the reason is given."""
    assert starts(conf, mod, image(*marks))[0] is Starts.UNKNOWN


def test_no_messages() -> None:
    """A kernel that is built without messages shows none of its marks."""
    traits = traits_of(NO_CONFIG, NO_MODULE, image(types=False))
    assert (traits.starts, traits.known_from) == (Starts.UNKNOWN, None)
    assert traits.unread == (NO_CONFIG.unread[0], "boot/vmlinuz-x: the kernel has no messages in it")
    assert (traits.walks_cmrs, traits.reads_cmrs, traits.dynamic_pamt) == (None, None, None)


def test_no_modules() -> None:
    """A kernel without modules exports nothing, and is known by its messages and by its KVM."""
    conf = config(kvm_intel="y")
    assert starts(conf, NO_MODULE, image(*BY_KVM, exports=False))[0] is Starts.NEVER
    assert starts(NO_CONFIG, NO_MODULE, image(*BY_KVM, exports=False))[0] is Starts.NEVER
    assert starts(conf, NO_MODULE, image(*BY_KVM, M.KVM_PARAMETER, exports=False))[0] is Starts.KVM_LOAD
    assert starts(conf, NO_MODULE, image(*BUILT, M.INITIALIZED_AT_BOOT, exports=False))[0] is Starts.BOOT


def test_not_built_by_configuration() -> None:
    """A configuration without TDX is enough, whatever could not be read."""
    traits = traits_of(config(tdx_host=False, hibernation=True), None, None)
    assert traits == KernelTraits(
        starts=Starts.NOT_BUILT,
        known_from=TraitsFrom.CONFIG,
        walks_cmrs=False,
        reads_cmrs=False,
        dynamic_pamt=False,
        hibernation=True,
        tdx_host=False,
        kvm_built_in=False,
    )


@pytest.mark.parametrize(
    ("conf", "mod", "expected"),
    [
        (config(kvm_intel="m"), None, False),
        (config(kvm_intel="y"), NO_MODULE, True),
        (config(kvm_intel="n"), NO_MODULE, None),
        (NO_CONFIG, WITH, False),
        (NO_CONFIG, ModuleReading("modules.builtin.modinfo", parameter=True, built_in=True), True),
        (NO_CONFIG, NO_MODULE, None),
        (NO_CONFIG, None, None),
    ],
)
def test_kvm_in_the_image(conf: ConfigReading, mod: ModuleReading | None, expected: bool | None) -> None:  # noqa: FBT001
    """The configuration tells it, or what is installed."""
    assert traits_of(conf, mod, None).kvm_built_in is expected


def test_image_that_could_not_be_read() -> None:
    """Then it is not known when TDX is initialized, though the configuration has it."""
    failed = MarksReading("boot/vmlinuz-x", unread=("boot/vmlinuz-x: Permission denied",))
    traits = traits_of(config(kvm_intel_tdx=True), WITH, failed)
    assert traits == KernelTraits(hibernation=False, tdx_host=True, kvm_built_in=False, unread=failed.unread)


@pytest.mark.parametrize(
    ("marks", "types", "expected"),
    [
        ((), True, (False, False, False)),
        ((), False, (False, None, None)),
        ((M.CMR_LIST,), False, (False, True, None)),
        ((M.CMR_BASE, M.CMR_SIZE), True, (False, True, False)),
        ((M.CMR_BASE,), True, (False, False, False)),
        ((M.CMR_WALK,), True, (True, False, False)),
        ((M.DYNAMIC_PAMT,), False, (False, None, True)),
        ((M.PAMT_BITMAP,), True, (False, False, True)),
    ],
)
def test_what_it_does_with_cmrs_and_pamt(
    marks: tuple[Mark, ...],
    types: bool,  # noqa: FBT001
    expected: tuple[bool | None, ...],
) -> None:
    """Each is known by a message or by a struct; without BTF a missing message does not rule it out."""
    traits = traits_of(config(), None, image(*BY_KVM, *marks, types=types))
    assert (traits.walks_cmrs, traits.reads_cmrs, traits.dynamic_pamt) == expected


def test_built_in_arguments() -> None:
    """Arguments that are built in are those that matter, and what only a file knows is named."""
    conf = config(built_in="quiet mem=8G secret=1 memmap=4K$1G", overrides=True, bootconfig=True)
    traits = traits_of(conf, None, None)
    assert traits.built_in == ("mem=8G", "memmap=4K$1G")
    assert traits.overrides
    assert "CONFIG_CMDLINE_FROM_BOOTCONFIG" in traits.unread[0]


@pytest.mark.parametrize(
    ("conf", "mod", "marks", "built_in"),
    [
        (config(kvm_intel="y"), NO_MODULE, BY_KVM, True),
        (config(kvm_intel="m"), NO_MODULE, BY_KVM, False),
        (NO_CONFIG, NO_MODULE, (*BY_KVM, M.KVM_PARAMETER), True),
        (NO_CONFIG, WITH, BY_KVM, False),
        (NO_CONFIG, ModuleReading("lib/modules/x/modules.builtin.modinfo", True, True), BY_KVM, True),
        (NO_CONFIG, NO_MODULE, BY_KVM, None),
    ],
)
def test_kvm_built_in(
    conf: ConfigReading,
    mod: ModuleReading,
    marks: tuple[Mark, ...],
    built_in: bool | None,  # noqa: FBT001
) -> None:
    """Whether KVM is a module: by the configuration, the module itself, or its parameter in the image."""
    assert traits_of(conf, mod, image(*marks)).kvm_built_in is built_in
