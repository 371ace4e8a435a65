package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mcphub-go/mcphub/pkg/session"
)

func newSessionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "Look at the client sessions of a running hub, and end them",
		Args:  cobra.NoArgs,
		RunE:  needsSubcommand,
		Long: `sessions talks to the admin listener of a running hub, by default on
127.0.0.1:7789. A session is named by the public half of its id, the part before
the dot; nobody can use the session with it.`,
	}
	var c adminClient
	c.bind(cmd.PersistentFlags())
	cmd.AddCommand(newSessionsList(&c), newSessionsShow(&c), newSessionsEvents(&c), newSessionsTail(&c), newSessionsKill(&c), newSessionsExport(), newSessionsImport())
	return cmd
}

func newSessionsList(c *adminClient) *cobra.Command {
	var f sessionFilter
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the sessions",
		Example: `  mcphub sessions list
  mcphub sessions list --client claude --idle-longer-than 10m
  mcphub sessions list --overdue --json
  mcphub sessions list --kind derived`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			sessions, restoring, err := c.sessions(cmd.Context(), f.kind)
			if err != nil {
				return err
			}
			sessions = f.apply(sessions, time.Now())
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]any{"sessions": raw(sessions), "count": len(sessions), "restoring": restoring})
			}
			return printSessions(cmd.OutOrStdout(), sessions, restoring)
		},
	}
	f.bind(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newSessionsShow(c *adminClient) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show <sessionId>",
		Short:   "Show one session",
		Example: "  mcphub sessions show 23o4x7vdoh7jjsxyl3lz",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var s sessionRow
			if err := c.get(cmd.Context(), sessionPath(args[0]), &s); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s.raw)
			}
			return s.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newSessionsKill(c *adminClient) *cobra.Command {
	var f sessionFilter
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "kill [<sessionId> ...]",
		Short: "End sessions, by id or by filter",
		Long: `kill ends sessions: their streams are closed, their calls cancelled, and what
they hold at the servers is given up. Their clients have to initialize again; a
derived session steers nothing and is made again by the next request. kill asks
before it does so; --yes answers for you.`,
		Example: `  mcphub sessions kill 23o4x7vdoh7jjsxyl3lz
  mcphub sessions kill --overdue --yes
  mcphub sessions kill --client inspector --idle-longer-than 1h`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if (len(args) == 0) == f.empty() {
				return usageError{errors.New("name sessions or give a filter, one of both; mcphub sessions list shows what there is")}
			}
			ids := args
			if len(args) == 0 {
				sessions, _, err := c.sessions(cmd.Context(), f.kind)
				if err != nil {
					return err
				}
				for _, s := range f.apply(sessions, time.Now()) {
					ids = append(ids, s.SessionID)
				}
			}
			if len(ids) == 0 {
				_, err := fmt.Fprintln(cmd.ErrOrStderr(), "No session matches.")
				return err
			}
			if !yes {
				if err := confirm(cmd.InOrStdin(), cmd.ErrOrStderr(), fmt.Sprintf("End %d sessions?", len(ids))); err != nil {
					return err
				}
			}
			return killAll(cmd.Context(), c, cmd.OutOrStdout(), ids, asJSON)
		},
	}
	f.bind(cmd.Flags())
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, an object a line")
	return cmd
}

// killAll ends each session, whatever becomes of the others.
func killAll(ctx context.Context, c *adminClient, w io.Writer, ids []string, asJSON bool) error {
	var failed error
	for _, id := range ids {
		id = public(id)
		err := c.do(ctx, http.MethodDelete, sessionPath(id), nil)
		result, text := map[string]any{"sessionId": id, "ended": err == nil}, "ended"
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", id, err))
			result["error"], text = err.Error(), err.Error()
		}
		if asJSON {
			if err := json.NewEncoder(w).Encode(result); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s  %s\n", id, text)
	}
	return failed
}

// confirm asks a question that only y or yes agrees to.
func confirm(in io.Reader, out io.Writer, question string) error {
	fmt.Fprintf(out, "%s [y/N] ", question)
	line, _ := bufio.NewReader(in).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was done; answer y, or use --yes")
}

// public takes the secret half off, should somebody paste the whole header.
func public(id string) string {
	id, _, _ = strings.Cut(id, ".")
	return id
}

// sessionPath is the resource of a session in the API.
func sessionPath(id string) string { return "/api/v1/sessions/" + url.PathEscape(public(id)) }

// sessionFilter chooses sessions.
type sessionFilter struct {
	kind    string
	client  string
	idle    time.Duration
	overdue bool
}

func (f *sessionFilter) bind(flags *pflag.FlagSet) {
	flags.StringVar(&f.kind, "kind", "", "sessions of one `kind`: protocol, or derived from requests without a session")
	flags.StringVar(&f.client, "client", "", "sessions of clients whose name contains `text`")
	flags.DurationVar(&f.idle, "idle-longer-than", 0, "sessions with nothing in flight for `duration`, such as 10m")
	flags.BoolVar(&f.overdue, "overdue", false, "sessions that should have ended by now")
}

// check refuses a filter that would choose everything by mistake.
func (f *sessionFilter) check() error {
	if f.idle < 0 {
		return usageError{errors.New("--idle-longer-than must be a positive duration, such as 10m")}
	}
	if f.kind != "" {
		if err := new(session.Kind).UnmarshalText([]byte(f.kind)); err != nil {
			return usageError{fmt.Errorf("--kind: %w", err)}
		}
	}
	return nil
}

func (f *sessionFilter) empty() bool { return *f == sessionFilter{} }

func (f *sessionFilter) apply(all []sessionRow, now time.Time) []sessionRow {
	out := []sessionRow{}
	for _, s := range all {
		switch {
		case f.kind != "" && s.kind() != f.kind: // again, or a hub that knows no kinds would have all of them killed
		case f.client != "" && !strings.Contains(strings.ToLower(s.ClientName), strings.ToLower(f.client)):
		case f.idle > 0 && (s.InFlight > 0 || now.Sub(time.UnixMilli(s.LastAccessedAt)) <= f.idle):
		case f.overdue && (s.ExpiresAt == 0 || !now.After(time.UnixMilli(s.ExpiresAt))):
		default:
			out = append(out, s)
		}
	}
	return out
}

// sessionRow is a session as the API describes it.
type sessionRow struct {
	SessionID       string                     `json:"sessionId"`
	Kind            string                     `json:"kind"`
	State           string                     `json:"state"`
	ClientName      string                     `json:"clientName"`
	ClientVersion   string                     `json:"clientVersion"`
	ProtocolVersion string                     `json:"protocolVersion"`
	Cwd             string                     `json:"cwd"`
	Project         string                     `json:"project"`
	UserAgent       string                     `json:"userAgent"`
	IP              string                     `json:"ip"`
	CreatedAt       int64                      `json:"createdAt"`
	LastAccessedAt  int64                      `json:"lastAccessedAt"`
	ExpiresAt       int64                      `json:"expiresAt"`
	InFlight        int                        `json:"inFlight"`
	Requests        int64                      `json:"requests"`
	Dirty           bool                       `json:"dirty"`
	LogLevel        string                     `json:"logLevel"`
	Subscriptions   []string                   `json:"subscriptions"`
	Upstreams       []string                   `json:"upstreams"`
	Metadata        map[string]json.RawMessage `json:"metadata"`

	raw json.RawMessage
}

// UnmarshalJSON keeps the whole text too, for --json.
func (s *sessionRow) UnmarshalJSON(data []byte) error {
	type plain sessionRow
	if err := json.Unmarshal(data, (*plain)(s)); err != nil {
		return err
	}
	s.raw = append(json.RawMessage(nil), data...)
	return nil
}

// kind is the kind of the session, also where the hub knows only one.
func (s sessionRow) kind() string { return cmp.Or(s.Kind, session.Protocol.String()) }

func raw(sessions []sessionRow) []json.RawMessage {
	out := make([]json.RawMessage, len(sessions))
	for i, s := range sessions {
		out[i] = s.raw
	}
	return out
}

func printSessions(w io.Writer, sessions []sessionRow, restoring int) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SESSION\tKIND\tCLIENT\tPROTOCOL\tSTATE\tAGE\tIDLE\tEXPIRES IN\tIN FLIGHT\tREQUESTS")
	for _, s := range sessions {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", s.SessionID, s.kind(), plainText(s.ClientName+" "+s.ClientVersion),
			plainText(s.ProtocolVersion), s.State, since(s.CreatedAt), since(s.LastAccessedAt), s.expires(), s.InFlight, s.Requests)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if restoring > 0 {
		fmt.Fprintf(w, "%d more are being restored\n", restoring)
	}
	return nil
}

func (s sessionRow) expires() string {
	if s.ExpiresAt == 0 {
		return "never"
	}
	return time.Until(time.UnixMilli(s.ExpiresAt)).Round(time.Second).String()
}

func (s sessionRow) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"session", s.SessionID}, {"kind", s.kind()}, {"state", s.State}, {"client", s.ClientName + " " + s.ClientVersion}, {"protocol", s.ProtocolVersion},
		{"user agent", s.UserAgent}, {"address", s.IP}, {"cwd", s.Cwd}, {"project", s.Project},
		{"created", stamp(s.CreatedAt)}, {"last activity", stamp(s.LastAccessedAt)}, {"expires in", s.expires()},
		{"in flight", strconv.Itoa(s.InFlight)}, {"requests", strconv.FormatInt(s.Requests, 10)}, {"dirty", strconv.FormatBool(s.Dirty)},
		{"log level", s.LogLevel}, {"subscriptions", strings.Join(s.Subscriptions, ", ")}, {"servers", strings.Join(s.Upstreams, ", ")},
	} {
		if text := strings.TrimSpace(plainText(row[1])); text != "" {
			fmt.Fprintf(t, "%s\t%s\n", row[0], text)
		}
	}
	for key, value := range s.Metadata {
		fmt.Fprintf(t, "metadata.%s\t%s\n", plainText(key), plainText(string(value)))
	}
	return t.Flush()
}

func since(ms int64) string { return time.Since(time.UnixMilli(ms)).Round(time.Second).String() }

func stamp(ms int64) string {
	return time.UnixMilli(ms).Format(time.RFC3339) + " (" + since(ms) + " ago)"
}

// plainText keeps what clients say of themselves from steering the terminal.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || (0x7f <= r && r < 0xa0) {
			return '.'
		}
		return r
	}, s)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// adminClient speaks with the admin API of a running hub.
type adminClient struct{ address string }

func (c *adminClient) bind(flags *pflag.FlagSet) {
	flags.StringVar(&c.address, "admin", "", "`address` of the hub's admin listener (env MCPHUB_ADMIN_LISTEN; default 127.0.0.1:7789)")
}

func (c *adminClient) base() string {
	address := c.address
	if address == "" {
		address = os.Getenv("MCPHUB_ADMIN_LISTEN")
	}
	if address == "" {
		address = "127.0.0.1:7789"
	}
	if !strings.Contains(address, "://") {
		address = "http://" + reachable(address)
	}
	return strings.TrimSuffix(address, "/")
}

// sessions reads the whole list, page by page, or what it has of one kind.
func (c *adminClient) sessions(ctx context.Context, kind string) (all []sessionRow, restoring int, err error) {
	for after := ""; ; {
		var page struct {
			Sessions  []sessionRow `json:"sessions"`
			Restoring int          `json:"restoring"`
			Next      string       `json:"next"`
		}
		if err := c.get(ctx, "/api/v1/sessions?limit=5000&kind="+url.QueryEscape(kind)+"&after="+url.QueryEscape(after), &page); err != nil {
			return nil, 0, err
		}
		all, restoring = append(all, page.Sessions...), page.Restoring
		if after = page.Next; after == "" {
			return all, restoring, nil
		}
	}
}

func (c *adminClient) get(ctx context.Context, path string, v any) error {
	return c.do(ctx, http.MethodGet, path, v)
}

// do sends one request and decodes the answer into v, if there is one to take.
func (c *adminClient) do(ctx context.Context, method, path string, v any) error {
	return c.send(ctx, method, path, nil, v)
}

// send is do with a body, unless it is nil.
func (c *adminClient) send(ctx context.Context, method, path string, body map[string]string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var content io.Reader = http.NoBody
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base()+path, content)
	if err != nil {
		return usageError{fmt.Errorf("%s is no address of a hub: %w", c.base(), err)}
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("no hub answers at %s; is it running, and is --admin right? %w", c.base(), err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode/100 != 2 {
		return problemOf(response)
	}
	if v == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(v); err != nil {
		return fmt.Errorf("the hub's answer cannot be read: %w", err)
	}
	return nil
}

// problemOf is what the hub says is wrong.
func problemOf(response *http.Response) error {
	var problem struct{ Error json.RawMessage }
	_ = json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&problem)
	var words string
	var guard struct{ Message string } // speaks JSON-RPC, on this listener as well
	if json.Unmarshal(problem.Error, &words) != nil && json.Unmarshal(problem.Error, &guard) == nil {
		words = guard.Message
	}
	if words == "" {
		return fmt.Errorf("%s answers %s, as the admin listener of a hub does not; is --admin right?", response.Request.URL.Host, response.Status)
	}
	return errors.New(words)
}
