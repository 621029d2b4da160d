#include "zloop/datagram.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>

namespace zloop {

namespace {

bool would_block(int status) noexcept { return status == -EAGAIN || status == -EWOULDBLOCK; }

// The const_casts are safe: sys::Packet is also used for receiving, but sending does not write through its pointers.
sys::Packet packet_of(const OutgoingDatagram& datagram) noexcept {
  sys::Packet packet{};
  packet.memory = {.iov_base = const_cast<char*>(datagram.segment.data), .iov_len = datagram.segment.size};
  if (datagram.route == Route::address) {
    packet.peer = const_cast<sockaddr*>(datagram.address.data());
    packet.peer_size = datagram.address.size();
  }
  return packet;
}

}  // namespace

const WatcherOps DatagramSocket::watcher_ops = {
    .on_ready = &DatagramSocket::on_ready,
    .user = &DatagramSocket::owner_of,
    .always_pollable = true,
};

DatagramSocket::DatagramSocket(const DatagramOps& ops, WriteQueue::ReleaseFn release, void* owner) noexcept
    : ops_(ops), owner_(owner), release_(release) {}

int DatagramSocket::open(Reactor& reactor, int fd, std::size_t longest) noexcept {
  assert(!is_open());
  assert(longest > 0 && longest <= Reactor::datagram_buffer_size);
  longest_ = longest;
  capacity_ = static_cast<int>(std::min(Reactor::datagram_buffer_size / longest, std::size_t{batch_max}));
  expected_ = 1;
  sys::prepare_socket(fd);
  return reactor.attach(*this, fd, watcher_ops);
}

void DatagramSocket::close() {
  detach();
  while (!queue_.empty()) drop_first();
}

int DatagramSocket::start_reading() noexcept { return set_interest(interest() | interest_read); }

void DatagramSocket::stop_reading() noexcept { drop_interest(interest_read); }

void* DatagramSocket::owner_of(Watcher& watcher) noexcept {
  return static_cast<DatagramSocket&>(watcher).owner_;  // NOLINT(*-static-cast-downcast): open() attaches no other
}

void DatagramSocket::on_ready(Watcher& watcher, unsigned ready) {
  const auto& datagram =
      static_cast<DatagramSocket&>(watcher);  // NOLINT(*-static-cast-downcast): open() attaches no other
  if (ready == interest_write) {
    datagram.ops_.on_writable(datagram.owner_);
  } else {
    datagram.ops_.on_readable(datagram.owner_);
  }
}

int DatagramSocket::receive(ReceivedDatagram* received, Loan& loan) noexcept {
  if (!is_open()) return -EBADF;
  char* buffer = loan.begin(reactor().datagram_buffer());
  if (buffer == nullptr) return -ENOMEM;
  std::array<sys::Packet, batch_max> packets;  // NOLINT(*-member-init): the first expected_ are filled
  for (int i = 0; i < expected_; ++i) {
    char* data = buffer + (static_cast<std::size_t>(i) * longest_);
    packets[static_cast<std::size_t>(i)] = {
        .memory = {.iov_base = data, .iov_len = longest_},
        .peer = reinterpret_cast<sockaddr*>(&received[i].peer),
        .peer_size = 0,
    };
  }
  const int asked = expected_;
  const int count = sys::receive_packets(fd(), packets.data(), asked);
  for (int i = 0; i < count; ++i) {
    const sys::Packet& packet = packets[static_cast<std::size_t>(i)];
    received[i].data = static_cast<const char*>(packet.memory.iov_base);
    received[i].size = packet.memory.iov_len;
    received[i].peer_size = packet.peer_size;
  }
  if (count == asked) {
    expected_ = std::min(asked * 2, capacity_);
  } else if (count <= asked / 2) {
    expected_ = std::max(asked / 2, 1);
  }
  return count;
}

int DatagramSocket::send_now(const char* data, std::size_t size, const Address* to) noexcept {
  if (!is_open()) return -EBADF;
  if (!queue_.empty()) return -EAGAIN;
  const ssize_t sent =
      to == nullptr ? sys::send(fd(), data, size) : sys::send_to(fd(), data, size, to->data(), to->size());
  if (sent >= 0) return 0;
  const int status = static_cast<int>(sent);
  return would_block(status) ? -EAGAIN : status;
}

int DatagramSocket::queue(const OutgoingDatagram& datagram) {
  if (!is_open() && queue_.empty()) return -EBADF;
  queue_.make_room(1);
  if (is_open()) {
    if (const int status = set_interest(interest() | interest_write); status < 0) return status;
  }
  queue_.push_back(datagram);
  bytes_ += datagram.segment.size;
  return 0;
}

// Fills `packets` for one call and returns their number. Datagrams to a connected peer are sent one by one: the kernel
// reports the error of an earlier datagram (ICMP) once, to the next call; in the middle of a batch it would be lost.
int DatagramSocket::gather(sys::Packet* packets) const noexcept {
  packets[0] = packet_of(queue_[0]);
  if (queue_[0].route == Route::peer) return 1;
  const auto most = static_cast<int>(std::min(queue_.size(), std::size_t{batch_max}));
  int count = 1;
  while (count < most && queue_[static_cast<std::size_t>(count)].route == Route::address) {
    packets[count] = packet_of(queue_[static_cast<std::size_t>(count)]);
    ++count;
  }
  return count;
}

int DatagramSocket::flush() {
  if (!is_open()) return 0;
  std::array<sys::Packet, batch_max> packets;  // NOLINT(*-member-init): gather() fills what is used
  while (!queue_.empty()) {
    if (first().route == Route::owner) return routed_by_owner;
    const int sent = sys::send_packets(fd(), packets.data(), gather(packets.data()));
    if (would_block(sent)) return 0;
    for (int i = 0; i < std::max(sent, 1); ++i) drop_first();
    if (sent < 0) return sent;
  }
  drop_interest(interest_write);
  return 0;
}

void DatagramSocket::drop_first() {
  const OutgoingDatagram datagram = queue_.pop_front();
  bytes_ -= datagram.segment.size;
  release_(datagram.segment.reference);
}

void DatagramSocket::discard_pending() {
  drop_interest(interest_write);
  while (!queue_.empty()) drop_first();
}

}  // namespace zloop
