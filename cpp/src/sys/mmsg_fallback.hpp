// Batches of datagrams where no system call takes several: on macOS; on the BSDs, some of which have such calls as a
// loop in the C library; and on Linux in a sandbox that forbids them.
#pragma once

#include "zloop/sys.hpp"

namespace zloop::sys {

// As receive_packets() and send_packets(), with one system call for each datagram.
int receive_mmsg_fallback(int fd, Packet* packets, int count) noexcept;
int send_mmsg_fallback(int fd, const Packet* packets, int count) noexcept;

}  // namespace zloop::sys
