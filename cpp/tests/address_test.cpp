#include "zloop/address.hpp"

#include <arpa/inet.h>
#include <net/if.h>
#include <sys/un.h>

#include <cstring>
#include <string>

#include "support/catch.hpp"

namespace {

using zloop::Address;
using zloop::SmallAddress;

std::string host_of(const Address& address) {
  std::array<char, Address::host_capacity> host{};
  REQUIRE(address.format_host(host));
  return host.data();
}

// What a system call would have stored.
template <typename SocketAddress>
Address stored(const SocketAddress& from) {
  sockaddr_storage storage{};
  std::memcpy(&storage, &from, sizeof(from));
  return {storage, sizeof(from)};
}

TEST_CASE("an IPv4 literal is parsed and formatted") {
  const std::string literal = GENERATE("0.0.0.0", "127.0.0.1", "192.0.2.255", "255.255.255.255");
  const int family = GENERATE(AF_INET, AF_UNSPEC);
  Address address;
  REQUIRE(address.parse(literal.c_str(), 65535, family));
  CHECK(address.family() == AF_INET);
  CHECK(address.size() == sizeof(sockaddr_in));
  CHECK(address.port() == 65535);
  CHECK(address.flow() == 0);
  CHECK(address.scope() == 0);
  CHECK(host_of(address) == literal);
}

TEST_CASE("an IPv6 literal is parsed and formatted") {
  const std::string literal = GENERATE("::", "::1", "2001:db8::8000", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
  const int family = GENERATE(AF_INET6, AF_UNSPEC);
  Address address;
  REQUIRE(address.parse(literal.c_str(), 1, family));
  CHECK(address.family() == AF_INET6);
  CHECK(address.size() == sizeof(sockaddr_in6));
  CHECK(address.port() == 1);
  CHECK(address.flow() == 0);
  CHECK(address.scope() == 0);
  CHECK(host_of(address) == literal);
}

TEST_CASE("an IPv6 literal may end in IPv4's notation") {
  Address address;
  REQUIRE(address.parse("::ffff:192.0.2.1", 0, AF_INET6));
  CHECK(host_of(address) == "::ffff:192.0.2.1");
}

TEST_CASE("what a socket call wants is what was parsed") {
  Address address;
  REQUIRE(address.parse("192.0.2.1", 8080, AF_INET));
  sockaddr_in v4{};
  std::memcpy(&v4, address.data(), sizeof(v4));
  CHECK(v4.sin_family == AF_INET);
  CHECK(v4.sin_port == htons(8080));
  CHECK(v4.sin_addr.s_addr == htonl(0xC0000201));
}

TEST_CASE("a bad literal is refused, and leaves the address as it was") {
  const std::string literal =
      GENERATE("", " ", "localhost", "127.1", "127.0.0.256", "127.0.0.1 ", "127.0.0.01", "127.0.0.1.1", "0x7f.0.0.1",
               "127.0.0.1:80", ":::", "::1::", "12345::", "[::1]", "::1%lo", "fe80::1%1", "1:2:3:4:5:6:7", "::g");
  const int family = GENERATE(AF_INET, AF_INET6, AF_UNSPEC);
  Address address;
  REQUIRE(address.parse("192.0.2.1", 80, AF_INET));
  CHECK_FALSE(address.parse(literal.c_str(), 443, family));
  CHECK(host_of(address) == "192.0.2.1");
  CHECK(address.port() == 80);
}

TEST_CASE("a literal of another family is refused") {
  Address address;
  CHECK_FALSE(address.parse("127.0.0.1", 80, AF_INET6));
  CHECK_FALSE(address.parse("::1", 80, AF_INET));
  CHECK_FALSE(address.parse("127.0.0.1", 80, AF_UNIX));
  CHECK_FALSE(address.parse("::1", 80, AF_UNIX));
  CHECK(address.family() == AF_UNSPEC);
  CHECK(address.size() == 0);
}

TEST_CASE("a link-local address is formatted with its interface") {
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(80);
  v6.sin6_flowinfo = htonl(0x12345);
  REQUIRE(::inet_pton(AF_INET6, "fe80::1", &v6.sin6_addr) == 1);
  v6.sin6_scope_id = ::if_nametoindex("lo");
  REQUIRE(v6.sin6_scope_id != 0);
  const Address address = stored(v6);
  CHECK(host_of(address) == "fe80::1");
  CHECK(address.port() == 80);
  CHECK(address.flow() == 0x12345);
  CHECK(address.scope() == v6.sin6_scope_id);
}

TEST_CASE("flow and scope are set on an IPv6 address, and only there") {
  Address address;
  REQUIRE(address.parse("fe80::1", 80, AF_INET6));
  address.set_flow_and_scope(0x12345, 7);
  CHECK(address.flow() == 0x12345);
  CHECK(address.scope() == 7);
  CHECK(address.port() == 80);
  REQUIRE(address.parse("127.0.0.1", 80, AF_INET));
  const Address before = address;
  address.set_flow_and_scope(0x12345, 7);
  CHECK(before.same_as(*reinterpret_cast<const sockaddr_storage*>(address.data()), address.size()));
}

TEST_CASE("addresses are the same that are so byte for byte") {
  const auto storage_of = [](const Address& address) {
    return *reinterpret_cast<const sockaddr_storage*>(address.data());
  };
  Address address;
  REQUIRE(address.parse("fe80::1", 80, AF_INET6));
  Address other = address;
  CHECK(address.same_as(storage_of(other), other.size()));
  CHECK_FALSE(address.same_as(storage_of(other), 0));
  other.set_flow_and_scope(0, 1);
  CHECK_FALSE(address.same_as(storage_of(other), other.size()));
  CHECK(Address().same_as({}, 0));
}

TEST_CASE("the longest host fits") {
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  REQUIRE(::inet_pton(AF_INET6, "fe80:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &v6.sin6_addr) == 1);
  v6.sin6_scope_id = 4294967295;
  CHECK(host_of(stored(v6)) == "fe80:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
}

TEST_CASE("other families have neither host nor port") {
  sockaddr_un path{};
  path.sun_family = AF_UNIX;
  const Address address = GENERATE_COPY(Address(), stored(path));
  std::array<char, Address::host_capacity> host{};
  CHECK_FALSE(address.format_host(host));
  CHECK(address.port() == 0);
  CHECK(address.flow() == 0);
  CHECK(address.scope() == 0);
}

TEST_CASE("an address that was cut short is not formatted") {
  sockaddr_storage storage{};
  storage.ss_family = AF_INET6;
  std::array<char, Address::host_capacity> host{};
  CHECK_FALSE(Address(storage, 4).format_host(host));
}

TEST_CASE("a small address gives back what it was given") {
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(80);
  v6.sin6_scope_id = 3;
  SmallAddress small;
  sockaddr_storage storage{};
  CHECK(small.copy_to(storage) == 0);
  REQUIRE(small.assign(reinterpret_cast<const sockaddr_storage&>(v6), sizeof(v6)));
  REQUIRE(small.copy_to(storage) == sizeof(v6));
  CHECK(std::memcmp(&storage, &v6, sizeof(v6)) == 0);
}

TEST_CASE("a small address keeps nothing of a long one") {
  SmallAddress small;
  sockaddr_storage storage{};
  REQUIRE(small.assign(storage, sizeof(sockaddr_in)));
  CHECK_FALSE(small.assign(storage, sizeof(sockaddr_un)));
  CHECK(small.copy_to(storage) == 0);
}

}  // namespace
