"""What the kernel does to datagrams before they are read."""

from __future__ import annotations

import socket

from producers.datagrams import enlarge, kernel_drops


def test_datagrams_that_the_kernel_drops_are_counted() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's least
        receiver.bind(("127.0.0.1", 0))
        assert kernel_drops(receiver) == 0
        for _ in range(500):
            sender.sendto(b"x" * 1000, receiver.getsockname())
        receiver.setblocking(False)
        kept = 0
        while True:
            try:
                receiver.recv(2000)
            except BlockingIOError:
                break
            kept += 1
        assert kept < 500
        assert kernel_drops(receiver) == 500 - kept


def test_a_larger_receive_buffer_is_asked_for() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        before = receiver.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        enlarge(receiver, 2 * before)
        assert receiver.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= before
