// A socket address as a value. Internet ones are parsed and formatted, numerically. Owns nothing; any thread.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace zloop {

class Address {
 public:
  static constexpr std::size_t host_capacity = INET6_ADDRSTRLEN;  // with the final zero

  Address() = default;
  Address(const sockaddr_storage& storage, socklen_t size) noexcept;

  // Reads a numeric host (no names, no scope suffix) of `family`: AF_INET, AF_INET6, or AF_UNSPEC for either.
  // False if it is none, not spelled as inet_pton(3) takes it, or for another family; the address is unchanged then.
  bool parse(const char* host, std::uint16_t port, int family) noexcept;

  // Of an IPv6 address; the flow label is in host byte order. Other families have none, and nothing happens.
  void set_flow_and_scope(std::uint32_t flow, std::uint32_t scope) noexcept;

  [[nodiscard]] int family() const noexcept { return storage_.ss_family; }
  [[nodiscard]] const sockaddr* data() const noexcept { return reinterpret_cast<const sockaddr*>(&storage_); }
  [[nodiscard]] socklen_t size() const noexcept { return size_; }

  // Byte for byte.
  [[nodiscard]] bool same_as(const sockaddr_storage& storage, socklen_t size) const noexcept;

  // Zero for other families than AF_INET and AF_INET6.
  [[nodiscard]] std::uint16_t port() const noexcept;
  // Zero for other families than AF_INET6. The flow label is in host byte order.
  [[nodiscard]] std::uint32_t flow() const noexcept;
  [[nodiscard]] std::uint32_t scope() const noexcept;

  // Writes the numeric host, zero-terminated, without the scope of an IPv6 one. False for other families, and for an
  // address that was cut short.
  bool format_host(std::array<char, host_capacity>& host) const noexcept;

 private:
  void assign(const void* address, socklen_t size) noexcept;

  sockaddr_storage storage_{};
  socklen_t size_ = 0;
};

// One of the addresses that most connections have, in as little memory as they take: for what there is many of.
class SmallAddress {
 public:
  // False for an address that is longer than those of the internet; none is kept then.
  bool assign(const sockaddr_storage& storage, socklen_t size) noexcept;

  // What it takes of the storage; zero: no address.
  socklen_t copy_to(sockaddr_storage& storage) const noexcept;

 private:
  std::array<char, sizeof(sockaddr_in6)> bytes_{};
  std::uint8_t size_ = 0;
};

}  // namespace zloop
