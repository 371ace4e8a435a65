package main

import (
	"net/url"
	"slices"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/config"
)

// secretsOf returns what is secret in the command of s: its environment, and the
// credentials in its arguments.
func secretsOf(s config.Server) []string {
	secrets := secretsInArgs(slices.Concat(strings.Fields(s.Command), s.Args))
	for _, value := range s.Env {
		secrets = append(append(secrets, value.Reveal()), secretsInURL(value.Reveal())...)
	}
	return secrets
}

// isCredential reports whether a variable, an option or a header most likely holds
// a credential, such as npm_config__authToken or --api-key.
func isCredential(name string) bool {
	name = strings.ReplaceAll(strings.ToUpper(name), "-", "_")
	words := []string{"TOKEN", "PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "CREDENTIAL", "_AUTH", "AUTHORIZATION", "COOKIE"}
	ends := []string{"KEY", "_PASS", "_PWD"}
	return slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(name, end) }) ||
		slices.ContainsFunc(words, func(word string) bool { return strings.Contains(name, word) })
}

// secretsIn returns the secrets in the value of a variable: the value of a
// credential, and what is secret in a URL, such as that of a proxy.
func secretsIn(name, value string) []string {
	if isCredential(name) {
		return []string{value}
	}
	return secretsInURL(value)
}

// secretsInURL returns the password in a URL and the values in its query, as they
// are written and decoded; none if the text is no URL.
func secretsInURL(text string) (secrets []string) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil
	}
	if password, ok := u.User.Password(); ok {
		_, raw, _ := strings.Cut(u.User.String(), ":")
		secrets = append(secrets, password, raw)
	}
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		if _, raw, ok := strings.Cut(pair, "="); ok {
			value, _ := url.QueryUnescape(raw)
			secrets = append(secrets, value, raw)
		}
	}
	return secrets
}

// secretsInArgs returns what is secret in the arguments of a program: the values of
// options, variables and settings that are credentials (--api-key=VALUE, --token
// VALUE, -e TOKEN=VALUE), headers, and what is secret in URLs.
func secretsInArgs(args []string) (secrets []string) {
	before := ""
	for _, arg := range args {
		if takesSecret(before) {
			secrets = append(secrets, arg)
		}
		if name, value, ok := strings.Cut(arg, ":"); ok && isHeader(before, name) {
			secrets = append(append(secrets, strings.TrimSpace(value)), strings.Fields(value)...)
		}
		secrets = append(secrets, assigned(arg)...)
		for _, word := range strings.FieldsFunc(arg, isBetweenWords) {
			_, value, _ := strings.Cut(word, "=")
			secrets = slices.Concat(secrets, assigned(word), secretsInURL(unquoted(word)), secretsInURL(unquoted(value)))
		}
		before = arg
	}
	return secrets
}

// takesSecret reports whether the argument after this one is a credential.
func takesSecret(arg string) bool {
	return strings.HasPrefix(arg, "-") && !strings.Contains(arg, "=") && isCredential(arg)
}

// isHeader reports whether an argument that begins with name and a colon is a header
// with a credential. Before is the argument before it: after an option for headers
// any may be one.
func isHeader(before, name string) bool {
	if strings.ContainsAny(name, " /=") {
		return false
	}
	return slices.Contains([]string{"-H", "--header", "--headers"}, before) || isCredential(name)
}

// assigned returns the value in text that is assigned to the name of a credential,
// as in --env=TOKEN=VALUE.
func assigned(text string) []string {
	for at, r := range text {
		if r == '=' && isCredential(text[:at]) {
			return []string{unquoted(text[at+1:])}
		}
	}
	return nil
}

func unquoted(text string) string { return strings.Trim(text, `'"`) }

// isBetweenWords reports whether r parts the settings in one argument, such as a
// command of a shell or the address of a database.
func isBetweenWords(r rune) bool { return strings.ContainsRune(" \t\r\n;,|`()", r) }
