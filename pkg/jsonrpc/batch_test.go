package jsonrpc

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestParseBatchReturnsTheBytesOfEachElement(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string
	}{
		{`[{}]`, []string{`{}`}},
		{" \r\n[ {\"jsonrpc\": \"2.0\"} ,\n1 , \"a\", null,[ [] ] ]\t", []string{`{"jsonrpc": "2.0"}`, `1`, `"a"`, `null`, `[ [] ]`}},
		{`[{"a":1,"a":2},12345678901234567890,1e400]`, []string{`{"a":1,"a":2}`, `12345678901234567890`, `1e400`}},
		{`[` + strings.Repeat(`1,`, MaxBatch-1) + `1]`, slices.Repeat([]string{"1"}, MaxBatch)},
	} {
		if !IsBatch([]byte(tt.in)) {
			t.Errorf("%.50q is not recognized as a batch", tt.in)
		}
		got, err := ParseBatch([]byte(tt.in))
		if err != nil || len(got) != len(tt.want) {
			t.Errorf("%.50q: %q, %v", tt.in, got, err)
			continue
		}
		for i := range got {
			if string(got[i]) != tt.want[i] {
				t.Errorf("%.50q: element %d is %q", tt.in, i, got[i])
			}
		}
	}
}

func TestAppendToAnElementDoesNotChangeTheNext(t *testing.T) {
	got, err := ParseBatch([]byte(`[1,2]`))
	if err != nil {
		t.Fatal(err)
	}
	_ = append(got[0], "xyz"...)
	if string(got[1]) != "2" {
		t.Errorf("%q", got)
	}
}

func TestInvalidBatchIsRefused(t *testing.T) {
	for in, code := range map[string]int{
		``:              CodeParse,
		` `:             CodeParse,
		`[`:             CodeParse,
		`[1`:            CodeParse,
		`[1,]`:          CodeParse,
		`[,1]`:          CodeParse,
		`[1 2]`:         CodeParse,
		`[1]]`:          CodeParse,
		`[1] {}`:        CodeParse,
		`[{"a":}]`:      CodeParse,
		"[\"\xff\"]":    CodeParse,
		`{`:             CodeParse,
		`nonsense`:      CodeParse,
		`[]`:            CodeInvalidRequest,
		" [\n] ":        CodeInvalidRequest,
		`{}`:            CodeInvalidRequest,
		`{"a":1,"a":2}`: CodeInvalidRequest,
		`"text"`:        CodeInvalidRequest,
		`null`:          CodeInvalidRequest,
		`[` + strings.Repeat(`1,`, MaxBatch) + `1]`: CodeInvalidRequest,
		strings.Repeat(`[`, 100_000):                CodeParse,
	} {
		got, err := ParseBatch([]byte(in))
		if err == nil || AsError(err).Code != code || got != nil {
			t.Errorf("%.50q: %q, %v, want code %d", in, got, err, code)
		}
	}
	_, err := ParseBatch([]byte(`[` + strings.Repeat(`1,`, MaxBatch) + `1]`))
	if err == nil || !strings.Contains(err.Error(), "at most 100 messages") {
		t.Error(err)
	}
}

func TestParseRefusesABatch(t *testing.T) {
	_, err := Parse([]byte(` [{"jsonrpc":"2.0","id":1,"method":"ping"}]`))
	if err != ErrBatch { //nolint:errorlint // the error itself, not wrapped
		t.Error(err)
	}
}

// ParseBatch allocates only the slice of elements and the decoder, regardless of the size of
// the batch and its messages.
func TestParseBatchCopiesNoElement(t *testing.T) {
	batch := func(n, size int) []byte {
		message := `{"jsonrpc":"2.0","id":1,"method":"a","params":{"a":"` + strings.Repeat("x", size) + `"}}`
		return []byte(`[` + strings.Repeat(message+`,`, n-1) + message + `]`)
	}
	allocs := func(data []byte) float64 {
		return testing.AllocsPerRun(20, func() {
			if _, err := ParseBatch(data); err != nil {
				t.Fatal(err)
			}
		})
	}
	small, many, large := allocs(batch(1, 10)), allocs(batch(MaxBatch, 10)), allocs(batch(MaxBatch, 10_000))
	if many > small+10 || large > many+2 {
		t.Errorf("allocations: 1 message %v, %d messages %v, large ones %v", small, MaxBatch, many, large)
	}
}

func FuzzParseBatch(f *testing.F) {
	for _, seed := range []string{
		`[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"a"}]`, ` [ 1 , [2] ] `, `[]`, `{}`, `[`, `[1] 2`, `[1,]`,
		`[` + strings.Repeat(`1,`, MaxBatch) + `1]`, "[\"\xff\",\"\\ud800\"]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		elements, err := ParseBatch(data)
		if err != nil {
			if code := AsError(err).Code; elements != nil || code != CodeParse && code != CodeInvalidRequest {
				t.Fatalf("%q: %q, %v", data, elements, err)
			}
			return
		}
		var want []json.RawMessage
		if err := json.Unmarshal(data, &want); err != nil || len(want) != len(elements) || len(want) > MaxBatch || !IsBatch(data) {
			t.Fatalf("%q: %q, want %q: %v", data, elements, want, err)
		}
		for i := range want {
			if string(want[i]) != string(elements[i]) {
				t.Fatalf("%q: %q, want %q", data, elements, want)
			}
		}
	})
}

func BenchmarkParseBatch(b *testing.B) {
	message := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"text":"` +
		strings.Repeat("a", 1000) + `"}}}`
	data := []byte(`[` + strings.Repeat(message+`,`, MaxBatch-1) + message + `]`)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseBatch(data); err != nil {
			b.Fatal(err)
		}
	}
}
