package metrics

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// installed returns the path of a program that make e2e installs.
func installed(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Skipf("%s does not say where the program is; make e2e installs it", variable)
	}
	return path
}

// prometheus is a running Prometheus.
type prometheus struct {
	t   *testing.T
	url string
}

// scrapeJob is one way to scrape a hub.
type scrapeJob struct {
	name, target string
	settings     string // YAML of the job, indented by four
}

// startPrometheus runs Prometheus with the configuration and the rules of deploy/,
// made quicker: it scrapes and evaluates twice a second, and alerts fire after a second.
func startPrometheus(t *testing.T, jobs ...scrapeJob) *prometheus {
	t.Helper()
	path, dir, deploy := installed(t, "MCPHUB_PROMETHEUS"), t.TempDir(), filepath.Join("..", "..", "deploy", "prometheus")
	config := mustRead(t, filepath.Join(deploy, "prometheus.yml"))
	config = strings.ReplaceAll(config, "_interval: 15s", "_interval: 500ms")
	config = regexp.MustCompile(`# (\w+_histograms: true)`).ReplaceAllString(config, "$1")
	config, _, _ = strings.Cut(config, "scrape_configs:")
	config += "scrape_configs:\n"
	for _, j := range jobs {
		config += "  - job_name: " + j.name + "\n" + j.settings + "    static_configs: [{targets: ['" + j.target + "']}]\n"
	}
	rules := mustRead(t, filepath.Join(deploy, "mcphub.rules.yml"))
	rules = regexp.MustCompile(`(for|keep_firing_for): \d+m`).ReplaceAllString(rules, "$1: 1s")
	for name, text := range map[string]string{"prometheus.yml": config, "mcphub.rules.yml": rules} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := hubtest.FreeAddress(t)
	p := &prometheus{t: t, url: "http://" + address}
	program := hubtest.StartProcess(t, path, "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--enable-feature=exemplar-storage")
	hubtest.Eventually(t, "Prometheus is ready", func() bool {
		select {
		case <-program.Done():
			t.Fatal("Prometheus ended")
		default:
		}
		status, _ := hubtest.Get(t, p.url+"/-/ready")
		return status == http.StatusOK
	})
	return p
}

func mustRead(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// api reads data of the HTTP API of Prometheus.
func (p *prometheus) api(data any, path string, params ...string) {
	p.t.Helper()
	values := url.Values{}
	for i := 0; i < len(params); i += 2 {
		values.Set(params[i], params[i+1])
	}
	status, body := hubtest.Get(p.t, p.url+"/api/v1/"+path+"?"+values.Encode())
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Status != "success" {
		p.t.Fatalf("%s %v: %d %v %s", path, params, status, err, body)
	}
}

// point is a promSample: a time and a value, which is text.
type point [2]any

func (p point) time() float64 { at, _ := p[0].(float64); return at }

func (p point) value() float64 {
	text, _ := p[1].(string)
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(err)
	}
	return v
}

// promSample is one series of a result.
type promSample struct {
	Metric    map[string]string
	Value     point
	Values    []point // of a range
	Histogram [2]any  // of a native histogram; its time is null otherwise
}

func (s promSample) native() (count string, ok bool) {
	h, ok := s.Histogram[1].(map[string]any)
	if !ok {
		return "", false
	}
	count, ok = h["count"].(string)
	return count, ok
}

func (p *prometheus) query(expr string) []promSample {
	p.t.Helper()
	var data struct{ Result []promSample }
	p.api(&data, "query", "query", expr)
	return data.Result
}

// holds reports whether the comparison expr has a result now.
func (p *prometheus) holds(expr string) bool {
	p.t.Helper()
	return len(p.query(expr)) > 0
}

// alerts returns the states of the alerts there are, by name.
func (p *prometheus) alerts() map[string]string {
	p.t.Helper()
	var data struct {
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
	p.api(&data, "alerts")
	states := map[string]string{}
	for _, a := range data.Alerts {
		states[a.Labels["alertname"]] = a.State
	}
	return states
}

// observed forwards to a hub's admin listener and keeps the types of content.
type observed struct {
	*httptest.Server
	mu    sync.Mutex
	types map[string]int
}

// address is what to scrape.
func (o *observed) address() string { return strings.TrimPrefix(o.URL, "http://") }

func (o *observed) seen() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.types
}

func observe(t *testing.T, side string) *observed {
	t.Helper()
	o := &observed{types: map[string]int{}}
	o.Server = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: side}) },
		ModifyResponse: func(r *http.Response) error {
			o.mu.Lock()
			defer o.mu.Unlock()
			kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
			o.types[kind]++
			return nil
		},
	})
	t.Cleanup(o.Close)
	return o
}
