// Conversion between socket addresses and Python's address objects.
#pragma once

#include <Python.h>
#include <sys/un.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "zloop/address.hpp"
#include "zloop/sys.hpp"

namespace zloop::binding {

// What socket.getpeername() returns for an internet address: (host, port), or (host, port, flow, scope) for IPv6.
// None for other families. A new reference, or null with an exception set.
inline PyObject* address_tuple(const sockaddr_storage& storage, socklen_t size) {
  const Address address(storage, size);
  std::array<char, Address::host_capacity> host{};
  if (!address.format_host(host)) Py_RETURN_NONE;
  if (address.family() == AF_INET) return Py_BuildValue("si", host.data(), int{address.port()});
  return Py_BuildValue("siII", host.data(), int{address.port()}, address.flow(), address.scope());
}

// What socket.recvfrom() returns as the sender of a datagram: a tuple as above; for a Unix socket a path, an abstract
// name as bytes, or None if it has no name. Only for the families that parse_address() knows.
inline PyObject* sender_address(const sockaddr_storage& storage, socklen_t size) {
  if (size == 0) Py_RETURN_NONE;
  if (storage.ss_family != AF_UNIX) return address_tuple(storage, size);
  const char* path = reinterpret_cast<const sockaddr_un*>(&storage)->sun_path;
  const std::size_t length = size - offsetof(sockaddr_un, sun_path);
  if (sys::has_abstract_names && length > 0 && path[0] == '\0') {
    return PyBytes_FromStringAndSize(path, static_cast<Py_ssize_t>(length));
  }
  return PyUnicode_DecodeFSDefaultAndSize(path, static_cast<Py_ssize_t>(strnlen(path, length)));
}

// Parses a number from 0 to `most`. It must be of type int itself: neither of a subclass, nor an object that merely
// converts to int.
inline bool parse_number(PyObject* number, std::uint32_t most, std::uint32_t& parsed) {
  if (!PyLong_CheckExact(number)) return false;
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
  if (overflow != 0 || value < 0 || std::cmp_greater(value, most)) return false;
  parsed = static_cast<std::uint32_t>(value);
  return true;
}

inline bool parse_internet_address(PyObject* object, int family, Address& parsed) {
  if (!PyTuple_CheckExact(object)) return false;
  const Py_ssize_t size = PyTuple_GET_SIZE(object);
  if (size < 2 || size > (family == AF_INET ? 2 : 4)) return false;
  PyObject* host = PyTuple_GET_ITEM(object, 0);
  if (!PyUnicode_CheckExact(host) || !PyUnicode_IS_ASCII(host)) return false;
  const auto* text = reinterpret_cast<const char*>(PyUnicode_1BYTE_DATA(host));
  if (std::strlen(text) != static_cast<std::size_t>(PyUnicode_GET_LENGTH(host))) return false;
  std::uint32_t port = 0;
  std::uint32_t flow = 0;
  std::uint32_t scope = 0;
  if (!parse_number(PyTuple_GET_ITEM(object, 1), 0xFFFF, port)) return false;
  if (size > 2 && !parse_number(PyTuple_GET_ITEM(object, 2), 0xF'FFFF, flow)) return false;
  if (size > 3 && !parse_number(PyTuple_GET_ITEM(object, 3), 0xFFFF'FFFF, scope)) return false;
  if (!parsed.parse(text, static_cast<std::uint16_t>(port), family)) return false;
  parsed.set_flow_and_scope(flow, scope);
  return true;
}

inline bool parse_unix_address(PyObject* object, Address& parsed) {
  PyObject* path = nullptr;
  if (PyUnicode_CheckExact(object)) {
    path = PyUnicode_EncodeFSDefault(object);
    if (path == nullptr) PyErr_Clear();
  } else if (PyBytes_CheckExact(object)) {
    path = Py_NewRef(object);
  }
  if (path == nullptr) return false;
  const char* text = PyBytes_AS_STRING(path);
  const auto length = static_cast<std::size_t>(PyBytes_GET_SIZE(path));
  // A path ends with a zero byte; the end of an abstract name is given by its size.
  const bool is_path = length > 0 && text[0] != '\0';
  const std::size_t size = is_path ? length + 1 : length;
  sockaddr_un address{};
  const bool fits = length > 0 && size <= sizeof(address.sun_path) && (is_path || sys::has_abstract_names);
  if (fits) {
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, text, length);
    sockaddr_storage storage{};
    std::memcpy(&storage, &address, sizeof(address));
    parsed = Address(storage, static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size));
  }
  Py_DECREF(path);
  return fits;
}

// Parses an address of `family` as socket.sendto() takes it, in its simplest form: a tuple of a numeric host and ints,
// or a Unix path or abstract name. False for everything else, whether it is wrong or, for example, a host name; no
// exception is set.
inline bool parse_address(PyObject* object, int family, Address& parsed) {
  if (family == AF_UNIX) return parse_unix_address(object, parsed);
  return (family == AF_INET || family == AF_INET6) && parse_internet_address(object, family, parsed);
}

}  // namespace zloop::binding
