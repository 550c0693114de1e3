package jobgate_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// This file holds the rooms of the house and what may pass between them. Three things are checked: what each package
// imports directly, what each Lambda binary links, and a few habits of the source. Test files are apart.
//
// Each check is a function over plain values, so that it is itself tested, at the end, against input that it has to
// refuse: one for every rule.

const module = "github.com/jobgate/jobgate"

// A pattern names packages. "./domain" is one of ours, "std" any of the standard library, "third-party" any that is
// neither, and everything else is an import path. A * stands for one path element, a closing /... for any number
// of them, none included; $1 stands for what the first * of a room is.
type pattern = string

// A room is a kind of package and all that it may import.
type room struct {
	name    pattern
	may     []pattern
	because string
}

// withoutIO is what of the standard library only computes: nothing in it waits, reads a clock or an environment that
// is not handed over, opens anything, or is nondeterministic.
var withoutIO = []pattern{
	"bytes", "cmp", "crypto/sha1", "crypto/sha256", "errors", "fmt", "iter", "maps", "math", "math/bits", "path", "regexp",
	"slices", "sort", "strconv", "strings", "time", "unicode", "unicode/utf8",
}

// rooms, the first match of which counts.
var rooms = []room{
	{
		name:    "./domain",
		may:     withoutIO,
		because: "the domain is values and decisions: it is tested as tables, with no fake, no waiting and no wire format",
	},
	{
		name: "./domain/access",
		may:  useCase,
		because: "a use case knows the domain and the ports only: technology, settings, logging and time are handed to it, " +
			"so that it is the same on a laptop, on a server and on Lambda",
	},
	{
		name:    "./domain/jobs",
		may:     useCase,
		because: "a use case knows the domain and the ports only: whatever else it needs is handed to it by bootstrap",
	},
	{
		name:    "./domain/jobs/jobstest",
		may:     append([]pattern{"testing", "./domain/jobs"}, useCase...),
		because: "whoever tries a handler needs the use case that runs it, and no adapter",
	},
	{
		name:    "./ports",
		may:     []pattern{"./domain", "context", "time"},
		because: "a port is an interface and its law, without logic",
	},
	{
		name:    "./ports/portstest",
		may:     []pattern{"std", "third-party", "./domain/...", "./ports", "./adapters/wire/...", "./adapters/adaptertest"},
		because: "a contract suite is handed the adapter it judges: one that knew an adapter could not judge another",
	},
	{
		name:    "./adapters/adaptertest",
		may:     []pattern{"std", "third-party", "./domain/...", "./ports/..."},
		because: "it starts real parts for every adapter's tests; an adapter of ours is for its test to bring",
	},
	{
		name:    "./adapters/wire/*/...",
		may:     []pattern{"std", "third-party", "./domain", "./adapters/wire/..."},
		because: "a wire format is a leaf that any adapter may use: it knows the domain and its format, and never another adapter",
	},
	{
		name:    "./adapters/*/...",
		may:     []pattern{"std", "third-party", "./domain/...", "./ports", "./adapters/wire/...", "./adapters/$1/..."},
		because: "an adapter knows the hexagon and its own technology; what belongs to two adapters is a func handed over in bootstrap",
	},
	{
		name:    "./bootstrap/cmd/jobgate",
		may:     []pattern{"context", "os", "./domain/jobs", "./bootstrap/cli"},
		because: "main is a few lines that a user with handlers of their own writes the same",
	},
	{
		name:    "./bootstrap/cmd/*",
		may:     []pattern{"context", "os", "./domain/jobs", "./bootstrap/$1"},
		because: "main is a few lines that a user with handlers of their own writes the same",
	},
	{
		name:    "./bootstrap/local/...",
		may:     append([]pattern{"./bootstrap/auth", "./bootstrap/jobs", "./bootstrap/worker", "./bootstrap/local/..."}, wiring...),
		because: "local runs the very functions that are deployed, and no other program",
	},
	{
		name:    "./deployments/pack",
		may:     []pattern{"std"},
		because: "it packs what was built, and knows files and nothing of what is in them",
	},
	{
		name:    "./bootstrap/config/...",
		may:     wiring,
		because: "settings are shared by every program and so know none",
	},
	{
		name:    "./bootstrap/*/...",
		may:     append([]pattern{"./bootstrap/$1/..."}, wiring...),
		because: "a program is wired from adapters, not from another program: what two share belongs in config or in an adapter",
	},
}

// useCase is what a use case may import; runtime/debug is for the stack of a handler that panicked.
var useCase = slices.Concat(withoutIO, []pattern{
	"./domain", "./ports", "context", "crypto/rand", "encoding/json", "math/rand/v2", "runtime/debug", "sync", "sync/atomic",
})

var wiring = []pattern{"std", "third-party", "./domain/...", "./ports", "./adapters/...", "./bootstrap/config/..."}

// A reserve is a set of packages that only the named rooms may import, whatever else those may.
type reserve struct {
	packages []pattern
	only     []pattern
	because  string
}

// clocks are packages inside that hand a clock over.
var clocks = []pattern{"./domain/jobs/jobstest"}

// testRooms are packages for tests, which may import anything a test needs.
var testRooms = []pattern{"./domain/jobs/jobstest/...", "./ports/portstest/...", "./adapters/adaptertest/...", "./adapters/httpapi/httpapitest/...", "./adapters/oidc/oidctest/..."}

var reserves = []reserve{
	{
		packages: append([]pattern{"testing/...", "net/http/httptest"}, testRooms...),
		because:  "testing code is linked into no program",
	},
	{
		packages: []pattern{"go.uber.org/zap/..."},
		only:     []pattern{"./adapters/zaplog", "./bootstrap/..."},
		because:  "adapters report by errors and funcs; zaplog decorates ports with logging",
	},
	{
		packages: []pattern{"github.com/MicahParks/...", "github.com/golang-jwt/..."},
		only:     []pattern{"./adapters/oidc", "./bootstrap/..."},
		because:  "one package parses tokens",
	},
	{
		packages: []pattern{"github.com/zitadel/...", "golang.org/x/oauth2/..."},
		only:     []pattern{"./bootstrap/local/...", "./bootstrap/cli"},
		because:  "being an OIDC provider or client is no part of the service",
	},
	{
		packages: []pattern{"database/sql/...", "modernc.org/...", "github.com/jackc/..."},
		only:     []pattern{"./adapters/sqlstore"},
		because:  "one package speaks SQL",
	},
	{
		packages: []pattern{"github.com/aws/aws-sdk-go-v2/service/dynamodb/..."},
		only:     []pattern{"./adapters/dynamodb", "./bootstrap/..."},
		because:  "one package speaks DynamoDB",
	},
	{
		packages: []pattern{"github.com/aws/aws-sdk-go-v2/aws/signer/..."},
		only:     []pattern{"./adapters/ssm"},
		because:  "one package makes a call without a service client",
	},
	{
		packages: []pattern{"github.com/aws/aws-sdk-go-v2/service/sns/..."},
		only:     []pattern{"./adapters/sns", "./bootstrap/..."},
		because:  "one package publishes to SNS",
	},
	{
		packages: []pattern{"github.com/aws/aws-sdk-go-v2/service/sqs/..."},
		only:     []pattern{"./adapters/sqs", "./bootstrap/..."},
		because:  "one package speaks to queues of SQS",
	},
	{
		packages: []pattern{"github.com/rabbitmq/..."},
		only:     []pattern{"./adapters/rabbitmq", "./bootstrap/..."},
		because:  "one package speaks AMQP",
	},
	{
		packages: []pattern{"github.com/prometheus/..."},
		only:     []pattern{"./adapters/prometheus"},
		because:  "one package counts, by decorators over ports",
	},
	{
		packages: []pattern{"go.opentelemetry.io/...", "google.golang.org/protobuf/..."},
		only:     []pattern{"./adapters/opentelemetry"},
		because:  "one package traces, by decorators; nothing of it is global",
	},
	{
		packages: []pattern{"github.com/standard-webhooks/..."},
		only:     []pattern{"./adapters/webhook"},
		because:  "one package signs webhooks",
	},
	{
		packages: []pattern{"github.com/aws/aws-lambda-go/..."},
		only:     []pattern{"./adapters/apigateway", "./adapters/localgateway", "./adapters/lambdaevents", "./bootstrap/..."},
		because:  "Lambda's event shapes stop at the adapters that translate them",
	},
}

// A link is a binary and what it links nothing of.
type link struct {
	binary  pattern
	nothing []pattern
	because string
}

var links = []link{
	{
		binary: "./bootstrap/cmd/*",
		nothing: []pattern{
			"testing/...", "net/http/httptest", "./domain/jobs/jobstest/...", "./ports/portstest/...", "./adapters/adaptertest/...",
			"./adapters/httpapi/httpapitest/...", "./adapters/oidc/oidctest/...", "github.com/google/go-cmp/...",
			"github.com/rogpeppe/go-internal/...", "go.uber.org/goleak/...", "pgregory.net/rapid/...",
		},
		because: "testing code registers flags, and is weight that no user asked for",
	},
	{
		binary:  "./bootstrap/cmd/*",
		nothing: []pattern{"github.com/getkin/kin-openapi/..."},
		because: "the OpenAPI document is checked by tests and served as bytes",
	},
	{
		binary: "./bootstrap/cmd/*",
		// database/sql/driver is a page of interfaces, which google/uuid implements.
		nothing: []pattern{"database/sql", "modernc.org/...", "github.com/jackc/..."},
		because: "on Lambda the store is DynamoDB: a SQL driver is megabytes of cold start",
	},
	{
		binary:  "./bootstrap/cmd/*",
		nothing: []pattern{"github.com/rabbitmq/..."},
		because: "on Lambda the broker is SNS",
	},
	{
		binary:  "./bootstrap/cmd/*",
		nothing: []pattern{"github.com/prometheus/...", "go.opentelemetry.io/...", "google.golang.org/protobuf/..."},
		because: "on Lambda nobody scrapes, and what is exported in the background is frozen",
	},
	{
		binary:  "./bootstrap/cmd/*",
		nothing: []pattern{"github.com/zitadel/..."},
		because: "the built-in OIDC provider is a laptop's; deployed, it would be a way in",
	},
	{
		binary:  "./bootstrap/cmd/*",
		nothing: []pattern{"net/rpc/..."},
		because: "it serves the retired go1.x runtime: build with -tags lambda.norpc",
	},
	{
		binary: "./bootstrap/cmd/*",
		nothing: []pattern{
			"github.com/aws/aws-sdk-go-v2/config/...", "github.com/aws/aws-sdk-go-v2/service/sso/...", "github.com/aws/aws-sdk-go-v2/service/ssooidc/...",
			"github.com/aws/aws-sdk-go-v2/service/signin/...", "github.com/aws/aws-sdk-go-v2/service/sts/...", "github.com/aws/aws-sdk-go-v2/service/ssm/...",
		},
		because: "a function has its credentials from its environment: ways to others, and a client for one call, are a seventh of its cold start",
	},
	{
		binary: "./bootstrap/cmd/auth",
		nothing: []pattern{
			"github.com/aws/aws-sdk-go-v2/service/...", "github.com/aws/aws-sdk-go-v2/credentials/...", "github.com/aws/aws-sdk-go-v2/feature/...",
		},
		because: "the authorizer is in the way of every request: of the SDK it needs the signature of one call, and no client in its cold start",
	},
}

// lambdaBinaries are what links speaks of.
var lambdaBinaries = []string{"auth", "jobs", "worker"}

// topFolders are all there are; hidden ones, and dist for what is built, do not count.
var topFolders = []string{"adapters", "bootstrap", "deployments", "domain", "ports"}

func TestPackagesImportWhatTheirRoomAllows(t *testing.T) {
	t.Parallel()
	graph := goList(t, "./...")
	if len(graph) == 0 {
		t.Fatal("go list found no package")
	}
	for _, f := range sourceFiles(t) { // go list leaves out the files of other platforms and build tags
		for _, imported := range f.imports() {
			if pkg := path.Join(module, path.Dir(f.name)); !slices.Contains(graph[pkg], imported) {
				graph[pkg] = append(graph[pkg], imported)
			}
		}
	}
	report(t, checkImports(graph))
}

func TestLambdaBinariesLinkOnlyWhatTheyUse(t *testing.T) {
	t.Parallel()
	for _, name := range lambdaBinaries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			binary := "./bootstrap/cmd/" + name
			report(t, checkLinks(binary, goList(t, "-deps", "-tags=lambda.norpc", binary)))
		})
	}
}

func TestSourceKeepsTheHabits(t *testing.T) {
	t.Parallel()
	for _, f := range sourceFiles(t) {
		report(t, checkSource(f))
	}
}

func TestTopLevelFoldersAreTheRooms(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, entry := range entries {
		if entry.IsDir() {
			folders = append(folders, entry.Name())
		}
	}
	report(t, checkFolders(folders))
}

func report(t *testing.T, violations []string) {
	t.Helper()
	for _, v := range violations {
		t.Error(v)
	}
}

// checkImports holds rooms and reserves against the direct imports of our packages.
func checkImports(graph map[string][]string) (violations []string) {
	for _, pkg := range slices.Sorted(maps.Keys(graph)) {
		i := slices.IndexFunc(rooms, func(r room) bool { _, ok := match(r.name, pkg); return ok })
		if i < 0 {
			violations = append(violations, fmt.Sprintf("%s: rule: every package has a room, because the house is laid out by what "+
				"a package may know", short(pkg)))
			continue
		}
		in := rooms[i]
		star, _ := match(in.name, pkg)
		for _, imported := range graph[pkg] {
			if !matchAny(in.may, imported, star) {
				violations = append(violations, fmt.Sprintf("%s imports %s: rule: %s may import %s only, because %s",
					short(pkg), short(imported), in.name, strings.ReplaceAll(strings.Join(in.may, " "), "$1", star), in.because))
			}
			for _, r := range reserves {
				if matchAny(r.packages, imported, "") && !matchAny(r.only, pkg, "") && !matchAny(testRooms, pkg, "") {
					violations = append(violations, fmt.Sprintf("%s imports %s: rule: %s is for %s only, because %s",
						short(pkg), short(imported), strings.Join(r.packages, " "), cmp.Or(strings.Join(r.only, " "), "tests"), r.because))
				}
			}
		}
	}
	return violations
}

// checkLinks holds links against all that binary reaches in graph, and shows the way there.
func checkLinks(binary pattern, graph map[string][]string) (violations []string) {
	root := module + strings.TrimPrefix(binary, ".")
	if _, ok := graph[root]; !ok {
		return []string{fmt.Sprintf("%s: rule: it is a program of this module, because deployments ship it", short(root))}
	}
	via := map[string]string{root: ""}
	for queue := []string{root}; len(queue) > 0; queue = queue[1:] {
		for _, imported := range graph[queue[0]] {
			if _, seen := via[imported]; !seen {
				via[imported] = queue[0]
				queue = append(queue, imported)
			}
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(via)) {
		for _, l := range links {
			if _, ok := match(l.binary, root); !ok || !matchAny(l.nothing, pkg, "") || matchAny(l.nothing, via[pkg], "") {
				continue // of a forbidden module, the package by which it is entered is enough
			}
			chain := short(pkg)
			for at := via[pkg]; at != ""; at = via[at] {
				chain = short(at) + " → " + chain
			}
			violations = append(violations, fmt.Sprintf("%s links %s (%s): rule: a Lambda binary links nothing of %s, because %s",
				short(root), short(pkg), chain, strings.Join(l.nothing, " "), l.because))
		}
	}
	return violations
}

// A source is a parsed file that is no test.
type source struct {
	name string // path from the root of the module, with slashes
	fset *token.FileSet
	file *ast.File
}

func (s source) imports() (paths []string) {
	for _, spec := range s.file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err == nil && imported != "C" {
			paths = append(paths, imported)
		}
	}
	return paths
}

// inside are the rooms that are tested without waiting and without a world around them.
var inside = []pattern{"./domain/...", "./ports"}

// ambient is what reads the world or waits on its own account, by package.
var ambient = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After", "Tick"},
	"os":   {"Getenv", "LookupEnv", "Environ"},
	"fmt":  {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
}

// checkSource holds habits that imports do not show.
func checkSource(s source) (violations []string) {
	pkg := path.Join(module, path.Dir(s.name))
	isInside := matchAny(inside, pkg, "") && !matchAny(clocks, pkg, "")
	complain := func(at ast.Node, format string, args ...any) {
		violations = append(violations, fmt.Sprintf("%s:%d ", s.name, s.fset.Position(at.Pos()).Line)+fmt.Sprintf(format, args...))
	}

	local := map[string]string{} // what an import is called here → its path
	for _, spec := range s.file.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if name == "." {
			complain(spec, "imports %s into its own names: rule: no dot import, because a call should say where it goes", imported)
		}
		local[name] = imported
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				complain(n, "has an init function: rule: no init, because what a program does is read from its Run")
			}
		case *ast.StructType:
			for _, field := range n.Fields.List {
				if isInside && field.Tag != nil {
					complain(field, "has the struct tag %s: rule: no struct tag in domain or ports, because wire formats belong to "+
						"adapters, in records of their own", field.Tag.Value)
				}
			}
		case *ast.SelectorExpr:
			from, ok := n.X.(*ast.Ident)
			if isInside && ok && slices.Contains(ambient[local[from.Name]], n.Sel.Name) {
				complain(n, "uses %s.%s: rule: no ambient clock, environment, terminal or sleep in domain or ports, because they are "+
					"handed over, and a test hands over its own", local[from.Name], n.Sel.Name)
			}
		}
		return true
	})
	return violations
}

func checkFolders(folders []string) (violations []string) {
	for _, folder := range folders {
		if !strings.HasPrefix(folder, ".") && folder != "dist" && folder != "testdata" && !slices.Contains(topFolders, folder) {
			violations = append(violations, fmt.Sprintf("%s/: rule: the top-level folders are %s, because a folder beside the rooms "+
				"is where things go that nobody placed", folder, strings.Join(topFolders, " ")))
		}
	}
	return violations
}

// match reports whether p names pkg, and what the first * stands for.
func match(p pattern, pkg string) (star string, ok bool) {
	ours := pkg == module || strings.HasPrefix(pkg, module+"/")
	first, _, _ := strings.Cut(pkg, "/")
	isStd := !strings.Contains(first, ".")
	switch p {
	case "std":
		return "", isStd
	case "third-party":
		return "", !isStd && !ours
	}
	if rest, found := strings.CutPrefix(p, "./"); found {
		p = module + "/" + rest
	}
	p, open := strings.CutSuffix(p, "/...")
	want, got := strings.Split(p, "/"), strings.Split(pkg, "/")
	if len(got) < len(want) || len(got) > len(want) && !open {
		return "", false
	}
	for i, element := range want {
		switch {
		case element == "*" && star == "":
			star = got[i]
		case element != "*" && element != got[i]:
			return "", false
		}
	}
	return star, true
}

func matchAny(patterns []pattern, pkg, star string) bool {
	return slices.ContainsFunc(patterns, func(p pattern) bool {
		_, ok := match(strings.ReplaceAll(p, "$1", star), pkg)
		return ok
	})
}

// short is an import path as it reads in a message.
func short(pkg string) string { return strings.TrimPrefix(pkg, module+"/") }

// goList gives the direct imports of the non-test files of what go list names.
func goList(t *testing.T, args ...string) map[string][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Imports,GoFiles,CgoFiles"}, args...)...)
	// As the binaries are built, whatever machine this is.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, &stderr)
	}
	graph := map[string][]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg struct {
			ImportPath                 string
			Imports, GoFiles, CgoFiles []string
		}
		err := dec.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return graph
		}
		if err != nil {
			t.Fatalf("%s: %v", cmd, err)
		}
		if len(pkg.GoFiles)+len(pkg.CgoFiles) > 0 { // else it is tests alone
			graph[pkg.ImportPath] = pkg.Imports
		}
	}
}

// sourceFiles parses every Go file of the module but tests and testdata, whatever its build constraints.
func sourceFiles(t *testing.T) (files []source) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, entry os.DirEntry, err error) error {
		switch base := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && (base == "testdata" || base == "dist" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(base, ".go") || strings.HasSuffix(base, "_test.go"):
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		files = append(files, source{filepath.ToSlash(name), fset, file})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// good is a small house in order: a package in every room, and an import of each kind it may have.
func good() map[string][]string {
	graph := map[string][]string{}
	for pkg, imports := range map[string]string{
		"domain":                "errors fmt time crypto/sha1",
		"domain/access":         "context time ./domain ./ports",
		"domain/jobs":           "context encoding/json crypto/rand sync ./domain ./ports",
		"domain/jobs/jobstest":  "context testing time ./domain ./domain/jobs ./ports",
		"ports":                 "context time ./domain",
		"ports/portstest":       "testing testing/synctest pgregory.net/rapid ./domain ./domain/jobs ./ports ./adapters/adaptertest",
		"adapters/adaptertest":  "testing net/http/httptest github.com/aws/aws-sdk-go-v2/aws ./domain",
		"adapters/wire/problem": "net/http github.com/go-json-experiment/json ./domain ./adapters/wire/problem/catalogue",
		"adapters/httpapi":      "net/http ./domain ./domain/jobs ./ports ./adapters/wire/problem ./adapters/httpapi/openapi",
		"adapters/sqlstore":     "database/sql modernc.org/sqlite ./domain ./ports",
		"adapters/dynamodb":     "github.com/aws/aws-sdk-go-v2/service/dynamodb ./domain",
		"adapters/sns":          "github.com/aws/aws-sdk-go-v2/service/sns ./domain",
		"adapters/rabbitmq":     "github.com/rabbitmq/amqp091-go ./domain",
		"adapters/oidc":         "github.com/MicahParks/keyfunc/v3 github.com/golang-jwt/jwt/v5 ./domain",
		"adapters/zaplog":       "go.uber.org/zap go.uber.org/zap/zapcore ./ports",
		"adapters/apigateway":   "github.com/aws/aws-lambda-go/events ./domain",
		"bootstrap/config":      "errors time ./domain",
		"bootstrap/auth":        "github.com/aws/aws-lambda-go/lambda ./domain/access ./adapters/oidc ./bootstrap/config",
		"bootstrap/worker":      "os go.uber.org/zap ./domain/jobs ./adapters/dynamodb ./bootstrap/config",
		"bootstrap/local":       "os ./bootstrap/auth ./bootstrap/worker ./bootstrap/local/idp ./adapters/sqlstore ./bootstrap/config",
		"bootstrap/local/idp":   "net/http github.com/zitadel/oidc/v3/pkg/op golang.org/x/oauth2",
		"bootstrap/cli":         "os github.com/zitadel/oidc/v3/pkg/client ./domain",
		"deployments/pack":      "archive/zip os",
		"bootstrap/cmd/auth":    "os context ./bootstrap/auth",
		"bootstrap/cmd/worker":  "./bootstrap/worker ./domain/jobs",
		"bootstrap/cmd/jobgate": "os ./bootstrap/cli",
	} {
		for imported := range strings.FieldsSeq(imports) {
			graph[module+"/"+pkg] = append(graph[module+"/"+pkg], long(imported))
		}
	}
	return graph
}

// long is the import path of a pattern without wildcards.
func long(p pattern) string {
	if rest, ours := strings.CutPrefix(p, "./"); ours {
		return module + "/" + rest
	}
	return p
}

func TestCheckImports(t *testing.T) {
	t.Parallel()
	if got := checkImports(good()); len(got) > 0 {
		t.Errorf("a house in order is refused:\n%s", strings.Join(got, "\n"))
	}

	// Each case adds one import to the house in order; the complaint begins with it and names the rule.
	tests := []struct{ pkg, imported, rule string }{
		{"./domain", "context", "./domain may import"},
		{"./domain", "net/http", "./domain may import"},
		{"./domain", "encoding/json", "./domain may import"},
		{"./domain", "log/slog", "./domain may import"},
		{"./domain", "math/rand/v2", "./domain may import"},
		{"./domain", "github.com/google/uuid", "./domain may import"},
		{"./domain", "./ports", "./domain may import"},
		{"./domain/access", "./adapters/oidc", "./domain/access may import"},
		{"./domain/access", "./domain/jobs", "./domain/access may import"},
		{"./domain/jobs", "net/http", "./domain/jobs may import"},
		{"./domain/jobs", "os", "./domain/jobs may import"},
		{"./domain/jobs", "github.com/go-json-experiment/json", "./domain/jobs may import"},
		{"./domain/jobs", "./bootstrap/config", "./domain/jobs may import"},
		{"./domain/jobs/jobstest", "./adapters/memory", "./domain/jobs/jobstest may import"},
		{"./ports", "net/netip", "./ports may import"},
		{"./ports", "./domain/jobs", "./ports may import"},
		{"./ports/portstest", "./adapters/memory", "./ports/portstest may import"},
		{"./adapters/adaptertest", "./adapters/sns", "./adapters/adaptertest may import"},
		{"./adapters/wire/problem", "./adapters/httpapi", "./adapters/wire/*/... may import"},
		{"./adapters/wire/problem", "./ports", "./adapters/wire/*/... may import"},
		{"./adapters/httpapi", "./adapters/oidc", "./adapters/*/... may import"},
		{"./adapters/httpapi/openapi", "./adapters/oidc", "./adapters/*/... may import"},
		{"./adapters/sqlstore", "./bootstrap/config", "./adapters/*/... may import"},
		{"./bootstrap/cmd/jobgate", "./bootstrap/local", "./bootstrap/cmd/jobgate may import"},
		{"./bootstrap/cmd/jobgate", "./domain", "./bootstrap/cmd/jobgate may import"},
		{"./bootstrap/cmd/auth", "./bootstrap/jobs", "./bootstrap/cmd/* may import"},
		{"./bootstrap/cmd/auth", "net/http", "./bootstrap/cmd/* may import"},
		{"./bootstrap/cmd/auth", "go.uber.org/zap", "./bootstrap/cmd/* may import"},
		{"./bootstrap/local", "./bootstrap/server", "./bootstrap/local/... may import"},
		{"./bootstrap/config", "./bootstrap/auth", "./bootstrap/config/... may import"},
		{"./bootstrap/worker", "./bootstrap/jobs", "./bootstrap/*/... may import"},
		{"./bootstrap/server", "./bootstrap/local/idp", "./bootstrap/*/... may import"},
		{"./pkg/utils", "fmt", "every package has a room"},
		{"./domain/billing", "fmt", "every package has a room"},
		{"./adapters/httpapi", "testing", "testing/... net/http/httptest"},
		{"./adapters/memory", "./ports/portstest", "testing/... net/http/httptest"},
		{"./bootstrap/local", "./adapters/adaptertest", "testing/... net/http/httptest"},
		{"./adapters/httpapi", "go.uber.org/zap/zapcore", "go.uber.org/zap/... is for"},
		{"./adapters/apigateway", "github.com/golang-jwt/jwt/v5", "github.com/MicahParks/... github.com/golang-jwt/... is for"},
		{"./adapters/oidc", "github.com/zitadel/oidc/v3/pkg/op", "github.com/zitadel/... golang.org/x/oauth2/... is for"},
		{"./adapters/memory", "database/sql/driver", "database/sql/... modernc.org/... github.com/jackc/... is for"},
		{"./deployments/pack", "./bootstrap/config", "./deployments/pack may import"},
		{"./adapters/sns", "github.com/aws/aws-sdk-go-v2/aws/signer/v4", "github.com/aws/aws-sdk-go-v2/aws/signer/... is for"},
		{"./adapters/sns", "github.com/aws/aws-sdk-go-v2/service/dynamodb/types", "github.com/aws/aws-sdk-go-v2/service/dynamodb/... is for"},
		{"./adapters/dynamodb", "github.com/aws/aws-sdk-go-v2/service/sns", "github.com/aws/aws-sdk-go-v2/service/sns/... is for"},
		{"./adapters/sns", "github.com/aws/aws-sdk-go-v2/service/sqs", "github.com/aws/aws-sdk-go-v2/service/sqs/... is for"},
		{"./adapters/sns", "github.com/rabbitmq/amqp091-go", "github.com/rabbitmq/... is for"},
		{"./adapters/httpapi", "github.com/prometheus/client_golang/prometheus", "github.com/prometheus/... is for"},
		{"./adapters/httpapi", "go.opentelemetry.io/otel/trace", "go.opentelemetry.io/... google.golang.org/protobuf/... is for"},
		{"./adapters/httpapi", "github.com/standard-webhooks/standard-webhooks/libraries/go", "github.com/standard-webhooks/... is for"},
		{"./adapters/httpapi", "github.com/aws/aws-lambda-go/events", "github.com/aws/aws-lambda-go/... is for"},
	}
	var broken []string
	for _, tt := range tests {
		graph := good()
		graph[long(tt.pkg)] = append(graph[long(tt.pkg)], long(tt.imported))
		got := checkImports(graph)
		broken = append(broken, got...)
		if !slices.ContainsFunc(got, func(v string) bool {
			return strings.HasPrefix(v, short(long(tt.pkg))) && strings.Contains(v, "rule: "+tt.rule) && strings.Contains(v, ", because ")
		}) {
			t.Errorf("%s imports %s: got %q, want the rule %q", tt.pkg, tt.imported, got, tt.rule)
		}
	}
	for _, r := range rooms {
		wantBroken(t, broken, "rule: "+r.name+" may import", r.because)
	}
	for _, r := range reserves {
		wantBroken(t, broken, "rule: "+strings.Join(r.packages, " ")+" is for", r.because)
	}
}

func TestCheckLinks(t *testing.T) {
	t.Parallel()
	graph := func() map[string][]string {
		return map[string][]string{
			long("./bootstrap/cmd/auth"):          {long("./bootstrap/auth")},
			long("./bootstrap/auth"):              {long("./adapters/oidc"), "github.com/aws/aws-lambda-go/lambda"},
			long("./bootstrap/cmd/worker"):        {long("./bootstrap/worker")},
			long("./bootstrap/worker"):            {long("./adapters/dynamodb"), "github.com/aws/aws-lambda-go/lambda"},
			long("./adapters/dynamodb"):           {"github.com/aws/aws-sdk-go-v2/service/dynamodb"},
			"github.com/aws/aws-lambda-go/lambda": {"net/http"},
			// Not linked by either.
			long("./bootstrap/local"): {"modernc.org/sqlite"},
		}
	}
	for _, binary := range []string{"./bootstrap/cmd/auth", "./bootstrap/cmd/worker"} {
		if got := checkLinks(binary, graph()); len(got) > 0 {
			t.Errorf("a slim binary is refused:\n%s", strings.Join(got, "\n"))
		}
	}

	// Each case adds one import somewhere below the binary; the complaint shows the way to it.
	tests := []struct{ binary, pkg, imported, want string }{
		{"worker", "./adapters/dynamodb", "testing", "links testing (bootstrap/cmd/worker → bootstrap/worker → adapters/dynamodb → testing)"},
		{"worker", "./bootstrap/worker", "./adapters/adaptertest", "links adapters/adaptertest (bootstrap/cmd/worker → bootstrap/worker → "},
		{"worker", "./adapters/dynamodb", "./ports/portstest", "links ports/portstest (bootstrap/cmd/worker → "},
		{"worker", "./bootstrap/worker", "github.com/getkin/kin-openapi/openapi3", "links github.com/getkin/kin-openapi/openapi3 ("},
		{"worker", "./bootstrap/worker", "modernc.org/sqlite", "links modernc.org/sqlite ("},
		{"worker", "./bootstrap/worker", "database/sql", "links database/sql ("},
		{"worker", "./bootstrap/worker", "github.com/jackc/pgx/v5", "links github.com/jackc/pgx/v5 ("},
		{"auth", "./adapters/oidc", "github.com/rabbitmq/amqp091-go", "links github.com/rabbitmq/amqp091-go ("},
		{"worker", "./bootstrap/worker", "go.opentelemetry.io/otel/trace", "links go.opentelemetry.io/otel/trace ("},
		{"auth", "./adapters/oidc", "github.com/zitadel/oidc/v3/pkg/client", "links github.com/zitadel/oidc/v3/pkg/client ("},
		{"auth", "github.com/aws/aws-lambda-go/lambda", "net/rpc", "github.com/aws/aws-lambda-go/lambda → net/rpc)"},
		{"auth", "./bootstrap/auth", "github.com/aws/aws-sdk-go-v2/service/sns", "links github.com/aws/aws-sdk-go-v2/service/sns ("},
		{"worker", "./bootstrap/worker", "github.com/aws/aws-sdk-go-v2/config", "links github.com/aws/aws-sdk-go-v2/config ("},
		{"jobs", "./bootstrap/jobs", "fmt", "bootstrap/cmd/jobs: rule: it is a program of this module"},
	}
	var broken []string
	for _, tt := range tests {
		bad := graph()
		bad[long(tt.pkg)] = append(bad[long(tt.pkg)], long(tt.imported))
		got := checkLinks("./bootstrap/cmd/"+tt.binary, bad)
		broken = append(broken, got...)
		if len(got) != 1 || !strings.Contains(got[0], tt.want) || !strings.Contains(got[0], ", because ") {
			t.Errorf("%s, where %s imports %s: got %q, want one complaint: %q", tt.binary, tt.pkg, tt.imported, got, tt.want)
		}
	}
	for _, l := range links {
		wantBroken(t, broken, strings.Join(l.nothing, " "), l.because)
	}
}

// wantBroken sees to it that every rule has a case above that breaks it.
func wantBroken(t *testing.T, violations []string, rule, because string) {
	t.Helper()
	if !slices.ContainsFunc(violations, func(v string) bool { return strings.Contains(v, rule) && strings.Contains(v, because) }) {
		t.Errorf("no case breaks the rule %q", rule)
	}
}

func TestCheckSource(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, file, text, want string }{
		{"a clock handed over", "domain/x.go", `import "time"; type c struct{ now func() time.Time }; var d = time.NewTimer`, ""},
		{"a clock outside", "adapters/x/x.go", `import "time"; var now = time.Now()`, ""},
		{"a tag outside", "adapters/x/x.go", "type r struct { ID string `json:\"id\"` }", ""},
		{"a method called init", "domain/x.go", `type t int; func (t) init() {}`, ""},
		{"a name like a package", "domain/x.go", `type c struct{ Now func() }; func f(time c) { time.Now() }`, ""},
		{"the clock that a test kit hands over", "domain/jobs/jobstest/x.go", `import "time"; var now = time.Now()`, ""},
		{"a call of the clock", "domain/x.go", `import "time"; var now = time.Now()`, "domain/x.go:1 uses time.Now: rule: no ambient clock"},
		{"the clock as a default", "domain/jobs/x.go", `import "time"; var now = time.Now`, "domain/jobs/x.go:1 uses time.Now: rule: no ambient clock"},
		{"the clock renamed", "domain/x.go", `import t "time"; var d = t.Since(t.Time{})`, "domain/x.go:1 uses time.Since: rule: no ambient clock"},
		{"a sleep", "domain/access/x.go", `import "time"; func f() { time.Sleep(1) }`, "domain/access/x.go:1 uses time.Sleep: rule:"},
		{"a wait", "ports/x.go", `import "time"; var c = time.After(1)`, "ports/x.go:1 uses time.After: rule:"},
		{"the environment", "domain/jobs/x.go", `import "os"; var s = os.Getenv("S")`, "domain/jobs/x.go:1 uses os.Getenv: rule:"},
		{"the terminal", "domain/x.go", `import "fmt"; func f() { fmt.Println() }`, "domain/x.go:1 uses fmt.Println: rule:"},
		{"a dot import", "adapters/x/x.go", `import . "time"; var now = Now()`, "adapters/x/x.go:1 imports time into its own names: rule: no dot import"},
		{"a tag", "domain/x.go", "type job struct { ID string `json:\"id\"` }", "domain/x.go:1 has the struct tag `json:\"id\"`: rule: no struct tag"},
		{"a tag in a function", "ports/x.go", "func f() { _ = struct{ ID string `db:\"id\"` }{} }", "ports/x.go:1 has the struct tag `db:\"id\"`: rule:"},
		{"an init", "bootstrap/auth/x.go", `func init() {}`, "bootstrap/auth/x.go:1 has an init function: rule: no init"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, tt.file, "package x; "+tt.text, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(checkSource(source{tt.file, fset, file}), "\n")
			if tt.want == "" && got != "" {
				t.Errorf("got %q, want no complaint", got)
			}
			if !strings.HasPrefix(got, tt.want) || tt.want != "" && !strings.Contains(got, ", because ") {
				t.Errorf("got %q, want %q with its reason", got, tt.want)
			}
		})
	}
}

func TestCheckFolders(t *testing.T) {
	t.Parallel()
	if got := checkFolders([]string{".ci", ".git", "adapters", "bootstrap", "deployments", "dist", "domain", "ports", "testdata"}); len(got) > 0 {
		t.Errorf("got %q, want no complaint", got)
	}
	for _, folder := range []string{"pkg", "internal", "utils", "common", "docs"} {
		got := checkFolders([]string{"domain", folder})
		if len(got) != 1 || !strings.HasPrefix(got[0], folder+"/: rule: ") || !strings.Contains(got[0], ", because ") {
			t.Errorf("%s: got %q, want one complaint", folder, got)
		}
	}
}
