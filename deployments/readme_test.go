package deployments_test

import (
	"flag"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the tables of the README anew")

// The tables are what the README has of variables.tf and outputs.tf. They are made anew by
//
//	go test ./deployments -run TestREADMEHasEveryInputAndOutput -update
//
// when something in those files has changed.
func TestREADMEHasEveryInputAndOutput(t *testing.T) {
	t.Parallel()
	const name = moduleDir + "/README.md"
	c := readConfiguration(t, moduleDir)
	readme := string(readFile(t, name))
	updated := readme
	for heading, table := range map[string]string{"Inputs": inputs(t, c), "Outputs": outputs(t, c)} {
		section := regexp.MustCompile(`(?s)(## ` + heading + `\n\n)\|.*?\|\n(\n|$)`)
		if !section.MatchString(updated) {
			t.Fatalf("the README has no table of %s", heading)
		}
		updated = section.ReplaceAllString(updated, "${1}"+strings.ReplaceAll(table, "$", "$$")+"${2}")
	}
	if *update {
		write(t, name, []byte(updated))
		return
	}
	if diff := cmp.Diff(updated, readme); diff != "" {
		t.Errorf("the tables of the README (-module +README):\n%s", diff)
	}
}

func inputs(t *testing.T, c *configuration) string {
	t.Helper()
	var table strings.Builder
	table.WriteString("| name | type | default | |\n|---|---|---|---|\n")
	for _, b := range c.each("variable", "") {
		kind := regexp.MustCompile(`\n +`).ReplaceAllString(c.text(attribute(b.Body, "type")), ", ")
		kind = strings.NewReplacer("({, ", "({ ", ", })", " })").Replace(regexp.MustCompile(` +`).ReplaceAllString(kind, " "))
		fallback := "needed"
		if e := attribute(b.Body, "default"); e != nil {
			fallback = "`" + c.text(e) + "`"
		}
		fmt.Fprintf(&table, "| `%s` | `%s` | %s | %s |\n", b.Labels[0], kind, fallback, cell(t, b.Labels[0], c, "variable."))
	}
	return table.String()
}

func outputs(t *testing.T, c *configuration) string {
	t.Helper()
	var table strings.Builder
	table.WriteString("| name | |\n|---|---|\n")
	for _, b := range c.each("output", "") {
		fmt.Fprintf(&table, "| `%s` | %s |\n", b.Labels[0], cell(t, b.Labels[0], c, "output."))
	}
	return table.String()
}

func cell(t *testing.T, name string, c *configuration, kind string) string {
	t.Helper()
	text, err := literal(attribute(c.find(kind+name).Body, "description"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(text, "|", `\|`)
}

// The calls that the README shows are those of the examples, word by word.
func TestREADMEShowsTheExamples(t *testing.T) {
	t.Parallel()
	readme := string(readFile(t, moduleDir, "README.md"))
	blocks := regexp.MustCompile("(?s)```hcl\n(.*?)```").FindAllStringSubmatch(readme, -1)
	shown := 0
	for _, dir := range examples(t) {
		c := readConfiguration(t, dir)
		call := c.each("module", "")[0].Range()
		text := string(c.source[call.Filename][call.Start.Byte:])
		text = text[:strings.Index(text, "\n}\n")+3]
		for _, block := range blocks {
			if strings.TrimSpace(block[1]) == strings.TrimSpace(text) {
				shown++
			}
		}
	}
	if shown != len(examples(t)) || shown != len(blocks) {
		t.Errorf("of %d blocks in the README %d are the call of one of %d examples", len(blocks), shown, len(examples(t)))
	}
}
