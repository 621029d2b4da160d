// A socket address as a value. IPv4 and IPv6 addresses can be parsed and formatted in numeric form. Owns nothing; any
// thread.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace zloop {

class Address {
 public:
  static constexpr std::size_t host_capacity = INET6_ADDRSTRLEN;  // with the terminating zero byte

  Address() = default;
  Address(const sockaddr_storage& storage, socklen_t size) noexcept;

  // Parses a numeric host (no name, no scope suffix) in the syntax of inet_pton(3). `family` is AF_INET, AF_INET6, or
  // AF_UNSPEC for either. False if the host is not in this syntax, or is of another family; the address is unchanged
  // then.
  bool parse(const char* host, std::uint16_t port, int family) noexcept;

  // Sets the flow label, in host byte order, and the scope of an IPv6 address. Does nothing for other families.
  void set_flow_and_scope(std::uint32_t flow, std::uint32_t scope) noexcept;

  [[nodiscard]] int family() const noexcept { return storage_.ss_family; }
  [[nodiscard]] const sockaddr* data() const noexcept { return reinterpret_cast<const sockaddr*>(&storage_); }
  [[nodiscard]] socklen_t size() const noexcept { return size_; }

  // Compares all bytes.
  [[nodiscard]] bool same_as(const sockaddr_storage& storage, socklen_t size) const noexcept;

  // Zero for other families than AF_INET and AF_INET6.
  [[nodiscard]] std::uint16_t port() const noexcept;
  // Zero for other families than AF_INET6. The flow label is in host byte order.
  [[nodiscard]] std::uint32_t flow() const noexcept;
  [[nodiscard]] std::uint32_t scope() const noexcept;

  // Writes the numeric host, zero-terminated, without the scope of an IPv6 address. False for other families, and for a
  // truncated address.
  bool format_host(std::array<char, host_capacity>& host) const noexcept;

 private:
  void assign(const void* address, socklen_t size) noexcept;

  sockaddr_storage storage_{};
  socklen_t size_ = 0;
};

// An address that is not longer than sockaddr_in6, in little memory: for objects that exist once per connection.
class SmallAddress {
 public:
  // False if the address is longer than that; no address is stored then.
  bool assign(const sockaddr_storage& storage, socklen_t size) noexcept;

  // Copies the address to `storage` and returns its size; zero if there is no address.
  socklen_t copy_to(sockaddr_storage& storage) const noexcept;

 private:
  std::array<char, sizeof(sockaddr_in6)> bytes_{};
  std::uint8_t size_ = 0;
};

}  // namespace zloop
