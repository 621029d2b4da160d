// Socket addresses as Python has them.
#pragma once

#include <Python.h>

#include <array>

#include "zloop/address.hpp"

namespace zloop::binding {

// What socket.getpeername() returns for an internet address: (host, port), or (host, port, flow, scope) for IPv6.
// None for other families. A new reference, or null with an exception set.
inline PyObject* address_tuple(const sockaddr_storage& storage, socklen_t size) noexcept {
  const Address address(storage, size);
  std::array<char, Address::host_capacity> host{};
  if (!address.format_host(host)) Py_RETURN_NONE;
  if (address.family() == AF_INET) return Py_BuildValue("si", host.data(), int{address.port()});
  return Py_BuildValue("siII", host.data(), int{address.port()}, address.flow(), address.scope());
}

}  // namespace zloop::binding
