package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

func checkAddress(s string) string {
	const wrong = "is not an address; expected " + anAddress
	host, port, err := net.SplitHostPort(s)
	if err != nil || host != "" && !isHost(host) {
		return wrong
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return wrong
	}
	return ""
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?$`)

func isHost(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil || hostName.MatchString(s)
}

// overlap reports whether two listen addresses use the same port of the same interface.
func overlap(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil {
		return false
	}
	numberA, _ := strconv.ParseUint(portA, 10, 16)
	numberB, _ := strconv.ParseUint(portB, 10, 16)
	return numberA == numberB && numberA != 0 &&
		(allInterfaces(hostA) || allInterfaces(hostB) || loopback(hostA) == loopback(hostB))
}

func allInterfaces(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// loopback returns host in lower case, with localhost as an IP address.
func loopback(host string) string {
	if strings.EqualFold(host, "localhost") {
		return "127.0.0.1"
	}
	return strings.ToLower(host)
}

func checkHost(s string) string {
	bare := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bare = s[1 : len(s)-1]
	}
	if !isHost(bare) {
		return "is not a host name; expected one such as hub.example.org, without scheme, port or *"
	}
	return ""
}

func checkOrigin(s string) string {
	const wrong = "is not an origin; expected scheme://host or scheme://host:port, without a path or *"
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || !isHost(u.Hostname()) || !validPort(u) {
		return wrong
	}
	if fmt.Sprintf("%s://%s", u.Scheme, u.Host) != s {
		return wrong
	}
	return ""
}

func checkURL(s string) string {
	u, err := url.Parse(s)
	switch {
	// err is not shown because it quotes the URL, which may contain a password.
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", !validPort(u):
		return "is not a usable URL; expected " + aURL
	case u.User != nil:
		return "contains a user name or password; expected credentials in headers"
	}
	return ""
}

func validPort(u *url.URL) bool {
	_, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil || u.Port() == "" && !strings.HasSuffix(u.Host, ":")
}
