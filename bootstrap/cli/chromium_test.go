package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/bootstrap/cli/session"
)

var authorizeLine = regexp.MustCompile(`To log in, open in a browser\s+(http://\S+)`)

type steps []chromedp.Action[chromedp.Void]

// chromium starts a browser without a window. What it gives ends with the test.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path := adaptertest.Need(t, "chromium", "apt-get install chromium")
	ctx := t.Context() // without a limit: those who use the browser may wait for their turn among other tests
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // which root cannot have
	}
	ctx, stop := chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(stop)
	ctx, closed := chromedp.NewContext(ctx)
	t.Cleanup(closed)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

func TestAPersonLogsInWithARealBrowser(t *testing.T) {
	t.Parallel()
	ctx := chromium(t)
	service := startLaptop(t)
	fill := func(user, password string) steps {
		return steps{
			chromedp.WaitVisible("#password"), chromedp.SetValue("#username", user), chromedp.SendKeys("#password", password),
			chromedp.Submit("#password"),
		}
	}
	decide := func(decision string) steps {
		button := fmt.Sprintf(`button[value=%q]`, decision)
		return steps{chromedp.WaitVisible(button), chromedp.Click(button)}
	}
	back := steps{chromedp.WaitVisible(`//h1[text()="Back to the terminal"]`)}
	right := service.passwords["alice"]
	login, grant := fill("alice", right), slices.Concat(fill("alice", right), decide("allow"))
	forged := func(address string) (steps, error) {
		u, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		return slices.Concat(steps{chromedp.Navigate(u.Query().Get("redirect_uri") + "?code=stolen&state=guessed")}, back), nil
	}
	at := func(person ...steps) func(string) (steps, error) {
		return func(address string) (steps, error) {
			return slices.Concat(steps{chromedp.Navigate(address)}, slices.Concat(person...)), nil
		}
	}
	type flags = []string
	for _, c := range []struct {
		name   string
		args   flags
		page   *regexp.Regexp
		person func(address string) (steps, error)
		is     error
	}{
		{"refuses", nil, authorizeLine, at(login, decide("refuse"), back), session.ErrRefused},
		{"is sent to the redirect by another page", nil, authorizeLine, forged, session.ErrRefused},
		{"mistypes the password first", nil, authorizeLine, at(fill("alice", "wrong"), steps{chromedp.WaitVisible("#message")}, grant, back), nil},
		{"comes back by IPv6", flags{"--redirect-host", "::1"}, authorizeLine, at(grant, back), nil},
		{"lets a device in", flags{"--device"}, completeLine, at(steps{chromedp.WaitVisible("#user_code"), chromedp.Submit("#user_code")}, grant,
			steps{chromedp.WaitVisible(`[role="status"]`)}), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, closed := chromedp.NewContext(ctx) // a tab
			defer closed()
			ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
			defer cancel()
			env := map[string]string{"JOBGATE_CONFIG_DIR": t.TempDir()}
			args := append([]string{"login", "--no-browser", "--keyring", "off", "--server", service.url}, c.args...)
			stdout, stderr, ended := start(t, env, args...)
			match, err := stderr.find(ctx, c.page)
			if err != nil {
				t.Fatal(err)
			}
			person, err := c.person(match[1])
			if err != nil {
				t.Fatal(err)
			}
			if err := chromedp.Do(ctx, person...); err != nil {
				shown, errShown := chromedp.Run(ctx, chromedp.Text("body"))
				t.Fatalf("%v, at a page that says %q, %v", err, shown, errShown)
			}
			if err := <-ended; !errors.Is(err, c.is) || (err == nil) != (c.is == nil) {
				t.Errorf("login = %v", err)
			}
			if c.is == nil && !strings.HasPrefix(stdout.String(), "logged in to "+service.url+` as "alice"`) {
				t.Errorf("it printed %q", stdout)
			}
		})
	}
}
