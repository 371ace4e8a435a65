package telemetry

import (
	"errors"
	"log"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
)

func TestStdLogRemovesQuotedTexts(t *testing.T) {
	tel, stderr := start(t, Config{})
	log.New(StdLog{tel.LoggerFor("mcp")}, "", 0).Printf("unsolicited response starting with %q; err=%v", `HTTP/1.1 "secret"`, nil)
	r := stderr.records(t)
	if len(r) != 1 || r[0]["msg"] != `unsolicited response starting with "..."; err=<nil>` ||
		r[0]["subsystem"] != "mcp" || r[0]["level"] != "INFO" {
		t.Errorf("%v", r)
	}
}

func TestMessagesOfTheSDKAreLogged(t *testing.T) {
	_, stderr := start(t, Config{LogLevel: levelTrace})
	otel.Handle(errors.New("an error"))
	otel.SetTracerProvider(otel.GetTracerProvider()) // the SDK logs an error about that
	for _, r := range stderr.records(t) {
		if r["subsystem"] != "telemetry" {
			t.Errorf("%v", r)
		}
	}
	if text := stderr.String(); !strings.Contains(text, "an error") || !strings.Contains(text, "no delegate configured") {
		t.Errorf("logged is %s", text)
	}
}
