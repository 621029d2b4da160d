#include "zloop/address.hpp"

#include <arpa/inet.h>

#include <cstring>

namespace zloop {

namespace {

// Typed views of the storage; sockaddr_storage is made for this (RFC 3493, section 3.10).
const sockaddr_in& as_v4(const sockaddr_storage& storage) noexcept {
  return *reinterpret_cast<const sockaddr_in*>(&storage);
}
const sockaddr_in6& as_v6(const sockaddr_storage& storage) noexcept {
  return *reinterpret_cast<const sockaddr_in6*>(&storage);
}

// On the BSDs and macOS an address also contains its size.
template <typename Storage>
void store_size(Storage& storage, socklen_t size) noexcept {
  if constexpr (requires { storage.ss_len; }) storage.ss_len = static_cast<decltype(storage.ss_len)>(size);
}

}  // namespace

Address::Address(const sockaddr_storage& storage, socklen_t size) noexcept : storage_(storage), size_(size) {
  store_size(storage_, size_);
}

bool Address::parse(const char* host, std::uint16_t port, int family) noexcept {
  if (family == AF_INET || family == AF_UNSPEC) {
    sockaddr_in v4{};
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
      v4.sin_family = AF_INET;
      v4.sin_port = htons(port);
      assign(&v4, sizeof(v4));
      return true;
    }
  }
  if (family == AF_INET6 || family == AF_UNSPEC) {
    sockaddr_in6 v6{};
    if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
      v6.sin6_family = AF_INET6;
      v6.sin6_port = htons(port);
      assign(&v6, sizeof(v6));
      return true;
    }
  }
  return false;
}

void Address::assign(const void* address, socklen_t size) noexcept {
  storage_ = sockaddr_storage{};
  std::memcpy(&storage_, address, size);
  size_ = size;
  store_size(storage_, size_);
}

void Address::set_flow_and_scope(std::uint32_t flow, std::uint32_t scope) noexcept {
  if (family() != AF_INET6) return;
  auto& v6 = *reinterpret_cast<sockaddr_in6*>(&storage_);
  v6.sin6_flowinfo = htonl(flow);
  v6.sin6_scope_id = scope;
}

bool Address::same_as(const sockaddr_storage& storage, socklen_t size) const noexcept {
  return size == size_ && std::memcmp(&storage, &storage_, size) == 0;
}

std::uint16_t Address::port() const noexcept {
  if (family() == AF_INET) return ntohs(as_v4(storage_).sin_port);
  if (family() == AF_INET6) return ntohs(as_v6(storage_).sin6_port);
  return 0;
}

std::uint32_t Address::flow() const noexcept { return family() == AF_INET6 ? ntohl(as_v6(storage_).sin6_flowinfo) : 0; }

std::uint32_t Address::scope() const noexcept { return family() == AF_INET6 ? as_v6(storage_).sin6_scope_id : 0; }

bool Address::format_host(std::array<char, host_capacity>& host) const noexcept {
  const void* bytes = nullptr;
  if (family() == AF_INET && size_ >= sizeof(sockaddr_in)) bytes = &as_v4(storage_).sin_addr;
  if (family() == AF_INET6 && size_ >= sizeof(sockaddr_in6)) bytes = &as_v6(storage_).sin6_addr;
  return bytes != nullptr && ::inet_ntop(family(), bytes, host.data(), static_cast<socklen_t>(host.size())) != nullptr;
}

bool SmallAddress::assign(const sockaddr_storage& storage, socklen_t size) noexcept {
  const bool fits = size <= bytes_.size();
  size_ = static_cast<std::uint8_t>(fits ? size : 0);
  std::memcpy(bytes_.data(), &storage, size_);
  return fits;
}

socklen_t SmallAddress::copy_to(sockaddr_storage& storage) const noexcept {
  std::memcpy(&storage, bytes_.data(), size_);
  return size_;
}

}  // namespace zloop
