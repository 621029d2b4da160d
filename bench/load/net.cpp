#include "net.hpp"

#include <netinet/tcp.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace bench {

template <typename Integer>
Integer check(Integer result, const char* action) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), action);
  return result;
}
template int check(int result, const char* action);
template ssize_t check(ssize_t result, const char* action);

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

Descriptor::Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Address::Address(const std::string& text) {
  const auto colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  const std::string rest = colon == std::string::npos ? "" : text.substr(colon + 1);
  if (kind == "unix" && rest.size() < sizeof(sockaddr_un::sun_path)) {
    auto* local = reinterpret_cast<sockaddr_un*>(&storage_);
    local->sun_family = AF_UNIX;
    std::ranges::copy(rest, &local->sun_path[0]);
    size_ = sizeof *local;
  } else if (kind == "tcp" || kind == "udp") {
    datagram_ = kind == "udp";
    auto* ip = reinterpret_cast<sockaddr_in*>(&storage_);
    ip->sin_family = AF_INET;
    ip->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ip->sin_port = htons(static_cast<std::uint16_t>(std::stoi(rest)));
    size_ = sizeof *ip;
  } else {
    throw std::invalid_argument("no address: " + text);
  }
}

namespace {

Descriptor make_socket(const Address& address, Blocking blocking) {
  const int type = address.is_datagram() ? SOCK_DGRAM : SOCK_STREAM;
  const int flags = SOCK_CLOEXEC | (blocking == Blocking::no ? SOCK_NONBLOCK : 0);
  return Descriptor(check(::socket(address.family(), type | flags, 0), "socket"));
}

void switch_on(const Descriptor& socket, int level, int option) {
  const int on = 1;
  check(::setsockopt(socket.get(), level, option, &on, sizeof on), "setsockopt");
}

void limit_waits(const Descriptor& socket) {
  const timeval patience{.tv_sec = 5, .tv_usec = 0};
  check(::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), "setsockopt");
  check(::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), "setsockopt");
}

void bind_to_loopback(const Descriptor& socket, std::uint32_t number) {
  constexpr std::uint32_t sources = 32;
  switch_on(socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
  sockaddr_in source{};
  source.sin_family = AF_INET;
  source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (number % sources));
  check(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&source), sizeof source), "bind");
}

}  // namespace

Descriptor bind_to(const Address& address) {
  constexpr int backlog = 1024;
  Descriptor socket = make_socket(address, Blocking::no);
  check(::bind(socket.get(), address.get(), address.size()), "bind");
  if (!address.is_datagram()) check(::listen(socket.get(), backlog), "listen");
  return socket;
}

Descriptor connect_to(const Address& address, Blocking blocking, std::uint32_t number) {
  Descriptor socket = make_socket(address, blocking);
  if (blocking == Blocking::yes) limit_waits(socket);
  if (address.family() == AF_INET && !address.is_datagram()) {
    switch_on(socket, IPPROTO_TCP, TCP_NODELAY);
    bind_to_loopback(socket, number);
  }
  if (::connect(socket.get(), address.get(), address.size()) < 0 && errno != EINPROGRESS) check(-1, "connect");
  return socket;
}

int port_of(const Descriptor& socket) {
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  check(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&name), &size), "getsockname");
  return name.ss_family == AF_INET ? ntohs(reinterpret_cast<const sockaddr_in*>(&name)->sin_port) : 0;
}

void raise_descriptor_limit() {
  rlimit limit{};
  check(::getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
  limit.rlim_cur = limit.rlim_max;
  check(::setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
}

void pin_to_core(int core) {
  if (core < 0) return;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(static_cast<std::size_t>(core), &cores);
  check(::sched_setaffinity(0, sizeof cores, &cores), "sched_setaffinity");
}

Epoll::Epoll() : fd_(check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {}

void Epoll::add(int fd, std::uint32_t events, std::uint64_t number) const {
  epoll_event event{.events = events, .data = {.u64 = number}};
  check(::epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

void Epoll::change(int fd, std::uint32_t events, std::uint64_t number) const {
  epoll_event event{.events = events, .data = {.u64 = number}};
  check(::epoll_ctl(fd_.get(), EPOLL_CTL_MOD, fd, &event), "epoll_ctl");
}

std::span<const epoll_event> Epoll::wait(std::chrono::milliseconds timeout) {
  const int count =
      ::epoll_wait(fd_.get(), ready_.data(), static_cast<int>(ready_.size()), static_cast<int>(timeout.count()));
  if (count < 0 && errno == EINTR) return {};
  return {ready_.data(), static_cast<std::size_t>(check(count, "epoll_wait"))};
}

}  // namespace bench
