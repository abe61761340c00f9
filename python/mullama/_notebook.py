"""What IPython and Jupyter need: Stop ends the streams of the interrupted cell, and a cell may block the kernel's loop.

A kernel keeps the traceback of what ended a cell, with all frames and their variables, so a stream that one of them
names is not ended by garbage collection. A cell that is stopped therefore cancels the streams that it opened or read.
"""

from __future__ import annotations

import inspect
import sys
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from types import FrameType

    from mullama._stream import TokenStream

_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE


def blocks_a_coroutine() -> bool:
    """Whether the caller's read blocks a running event loop, and no cell of a notebook asked for that.

    The kernel of a notebook runs its loop beneath every cell, and waits for the cell in any case.
    """
    if _running_loop() is None:
        return False
    if _task() is None:
        return True  # in a callback of the loop
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        if code.co_name.startswith(("<module>", "<cell")) and frame.f_globals.get("__name__") == "__main__":
            return False
        if code.co_flags & _ASYNC:
            return True
        frame = frame.f_back
    return True


def follow(stream: TokenStream, *, blocking: bool = False) -> None:
    """Notes who opens or reads the stream, if IPython runs on this thread: Stop ends it if that was the cell."""
    ipython: Any = sys.modules.get("IPython")
    if ipython is None or threading.current_thread() is not threading.main_thread():
        return
    shell = ipython.get_ipython()
    if shell is None:
        return
    cell = getattr(shell, "_mullama_cell", None)
    if cell is None:
        cell = shell._mullama_cell = _Cell()  # noqa: SLF001  # as long as the shell
        shell.events.register("pre_run_cell", cell.begin)
        shell.events.register("post_run_cell", cell.end)
    cell.add(stream, blocking=blocking)


class _Cell:
    """The cell that runs, and the streams that were opened or read since it began."""

    def __init__(self) -> None:
        """Begins in the middle of the first cell that opens a stream."""
        self._readers: weakref.WeakKeyDictionary[TokenStream, weakref.ref[Task[Any]] | None]
        self._blocking: weakref.WeakSet[TokenStream]
        self._wakeup: _Wakeup | None = None
        self.begin()

    def begin(self, _info: object = None) -> None:
        """Forgets the cell before; called by IPython in the task that runs the new one."""
        self._readers = weakref.WeakKeyDictionary()
        self._blocking = weakref.WeakSet()
        self._task = _task()

    def add(self, stream: TokenStream, *, blocking: bool) -> None:
        """Notes the running task as the stream's reader."""
        self._readers[stream] = _task()
        loop = _running_loop()
        if loop is None:
            return
        if self._wakeup is None or not self._wakeup.wakes(loop):
            self._wakeup = _Wakeup(loop)
        self._wakeup.install()
        if blocking:
            self._blocking.add(stream)
            self._end_blocking_reads_at_stop()

    def _end_blocking_reads_at_stop(self) -> None:
        """Adds to ipykernel's handler of the running cell, which only asks the loop that such a read blocks."""
        import signal  # noqa: PLC0415  # only notebooks need it

        known: Any = signal.getsignal(signal.SIGINT)
        if not str(getattr(known, "__module__", "")).startswith("ipykernel"):
            return  # it raises KeyboardInterrupt, or is ours already

        def stop(signum: int, frame: FrameType | None) -> None:
            reads = [stream for stream in self._blocking if stream._being_read]  # noqa: SLF001  # one package
            if reads and _task() == self._task:
                raise KeyboardInterrupt
            known(signum, frame)
            for stream in reads:  # in another task, out of which an exception would end the kernel's loop
                stream.cancel()

        signal.signal(signal.SIGINT, stop)  # ipykernel restores its own at the end of the cell

    def end(self, result: object = None) -> None:
        """Cancels the streams of a cell that was stopped; called by IPython."""
        asyncio: Any = sys.modules.get("asyncio")
        stopped = (KeyboardInterrupt, asyncio.CancelledError) if asyncio else KeyboardInterrupt
        if result is None or isinstance(getattr(result, "error_in_exec", None), stopped):
            for stream, reader in list(self._readers.items()):
                task = None if reader is None else reader()
                if reader == self._task or task is None or task.cancelled():
                    stream.cancel()
        self.begin()


class _Wakeup:
    """Wakes the kernel's event loop when a signal arrives.

    ipykernel cancels a cell from its handler for SIGINT, by a call that does not wake a loop that waits for events: a
    cell that waits for its first token would not hear Stop until the kernel's next message.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        import socket  # noqa: PLC0415  # only notebooks need it

        self._loop = weakref.ref(loop)
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)  # noqa: FBT003  # has no keyword
        self._writer.setblocking(False)  # noqa: FBT003  # the same
        with suppress(NotImplementedError):
            loop.add_reader(self._reader.fileno(), self._drain)

    def wakes(self, loop: AbstractEventLoop) -> bool:
        """Whether this is the loop."""
        return self._loop() is loop

    def install(self) -> None:
        """Has each signal write a byte, unless the program has that already."""
        import signal  # noqa: PLC0415  # only notebooks need it

        known = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        if known not in {-1, self._writer.fileno()}:
            signal.set_wakeup_fd(known)

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            self._reader.recv(4096)


def _running_loop() -> AbstractEventLoop | None:
    asyncio: Any = sys.modules.get("asyncio")
    return asyncio._get_running_loop() if asyncio else None  # noqa: SLF001  # exported so


def _task() -> weakref.ref[Task[Any]] | None:
    if _running_loop() is None:
        return None
    task = sys.modules["asyncio"].current_task()
    return None if task is None else weakref.ref(task)
