package session_test
import ("testing";"time";"context";"sync/atomic";"github.com/mcphub-go/mcphub/pkg/persist";"github.com/mcphub-go/mcphub/pkg/session")
type counting struct{ persist.Store; n, recs, ones, ns atomic.Int64; onesNs atomic.Int64 }
func (c *counting) Apply(ctx context.Context, ch []persist.Change) error {
	start := time.Now(); err := c.Store.Apply(ctx, ch); d := int64(time.Since(start))
	c.n.Add(1); c.recs.Add(int64(len(ch))); c.ns.Add(d); if len(ch) <= 2 { c.ones.Add(1); c.onesNs.Add(d) }
	return err
}
func BenchmarkZ(b *testing.B) {
	for _, par := range []int{1, 8, 32, 128} {
	b.Run("", func(b *testing.B) {
	dir, err := persist.OpenDir(b.TempDir(), persist.DirConfig{}); if err != nil { b.Fatal(err) }
	defer dir.Close()
	c := &counting{Store: dir}
	m := session.New(c, session.Config{}); ctx := b.Context(); var next atomic.Int64
	b.SetParallelism(par)
	b.RunParallel(func(pb *testing.PB) { for pb.Next() { if _, _, err := m.Create(ctx, realistic(int(next.Add(1)))); err != nil { b.Error(err) } } })
	e := b.Elapsed().Seconds()
	b.ReportMetric(float64(b.N)/e, "sessions/s"); b.ReportMetric(float64(c.recs.Load())/float64(c.n.Load()), "recs/batch")
	b.ReportMetric(float64(c.ones.Load())/float64(c.n.Load()), "tiny-share"); b.ReportMetric(float64(c.onesNs.Load())/1e9/e, "tiny-time"); b.ReportMetric(float64(c.ns.Load())/1e9/e, "apply-time")
	}) }
}
