"use strict";
// Draws what `analysis.page.content` says. Text of stores reaches the page as text nodes alone, and
// Plotly's labels through `escaped`, so that no name and no error can become HTML.
(() => {
  const page = document.getElementById("page");
  const served = Boolean(page.dataset.url);
  const REFRESH_MS = 1000 * Number(page.dataset.refreshSeconds);
  const ROWS_AT_ONCE = 50;
  let rowsAtOnce = ROWS_AT_ONCE;
  const state = { group: 0, filter: "", safeOnly: false, hyperparameter: null, metric: null,
                  task: null, sort: { column: null, descending: false }, marked: new Set(), standing: null, folds: new Map() };
  let content = null;

  // ---- parts of pages -------------------------------------------------------------------------
  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
    }
    for (const child of children.flat(Infinity)) {
      if (child === null || child === undefined) continue;
      made.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
    return made;
  }
  const isNumber = (value) => typeof value === "number";
  const shown = (value) => value === null || value === undefined ? ""
    : isNumber(value) && !Number.isInteger(value) ? String(Number(value.toPrecision(3))) : String(value);
  const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const runLink = (run, text) => served
    ? element("a", { href: "/run/" + encodeURIComponent(run) }, text) : text;
  const sweepUrl = (sweep) => "/sweep/" + encodeURIComponent(sweep);

  // What can be opened and shut; it stays as one left it when what is new is drawn.
  function fold(key, open, summary, ...children) {
    const made = element("details", { open: state.folds.has(key) ? state.folds.get(key) : open },
      element("summary", { onclick: () => state.folds.set(key, !made.open) }, summary), ...children);
    return made;
  }

  // The rows of a long table that nobody sees at first are added while the page has nothing to do.
  const whenIdle = window.requestIdleCallback || ((go) => setTimeout(go));
  function fillLater(body, rows, line) {
    const from = body.childElementCount;
    if (from >= rows.length) return;
    whenIdle(() => {
      if (!body.isConnected) return;
      body.append(...rows.slice(from, from + ROWS_AT_ONCE).map(line));
      fillLater(body, rows, line);
    });
  }

  function table(columns, rows, options = {}) {
    const line = (row) => element("tr", { class: row.mark || null }, columns.map((column) => {
      const value = row.cells[column.key];
      const cell = column.draw ? column.draw(value, row) : shown(value);
      const classes = [isNumber(value) ? "number" : null, column.text ? "text" : null,
                       column.warn && column.warn(row) ? "unsafe" : null];
      return element("td", { class: classes.filter(Boolean).join(" ") || null }, cell);
    }));
    const body = element("tbody", {}, rows.slice(0, rowsAtOnce).map(line));
    fillLater(body, rows, line);
    const head = element("thead", {}, element("tr", {}, columns.map((column) => {
      const direction = options.sort && options.sort.column === column.key
        ? (options.sort.descending ? "descending" : "ascending") : null;
      const arrow = direction === null ? "" : direction === "ascending" ? " ▲" : " ▼";
      const name = options.onsort
        ? element("button", { type: "button", onclick: () => options.onsort(column.key) }, column.title + arrow)
        : column.title;
      const numeric = rows.length > 0 && rows.every((row) => { const v = row.cells[column.key];
        return !column.draw && (v === null || isNumber(v)); });
      return element("th", { "aria-sort": direction, scope: "col", class: numeric ? "number" : null }, name);
    })));
    return element("div", { class: options.all ? "scroll all" : "scroll" }, element("table", { id: options.id || null }, head, body));
  }

  function showParts(...parts) {
    page.replaceChildren(...parts);
    // Charts that are gone would go on listening to the window.
    for (const [id, place] of charts) {
      if (place.isConnected) continue;
      sight.unobserve(place);
      waiting.delete(place);
      if (place.drawn) Plotly.purge(place);
      charts.delete(id);
    }
  }

  // ---- charts ---------------------------------------------------------------------------------
  const colors = new Map();
  function color(name) {
    if (!colors.has(name)) colors.set(name, getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim());
    return colors.get(name);
  }
  // Viridis from low to high, without the end that the paper swallows.
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const shades = () => dark.matches
    ? ["#35608d", "#2c728e", "#24868e", "#1f9a8a", "#2fb47c", "#65cb5e", "#a8db34", "#fde725"]
    : ["#440154", "#472f7d", "#3a528b", "#2c728e", "#20908c", "#28ae80", "#5ec962", "#8fd744"];
  const limitLine = (axis, reference) => ({ type: "line", [axis + "0"]: 1, [axis + "1"]: 1, [axis + "ref"]: reference || axis,
    [(axis === "x" ? "y" : "x") + "0"]: 0, [(axis === "x" ? "y" : "x") + "1"]: 1,
    [(axis === "x" ? "y" : "x") + "ref"]: "paper", line: { color: color("ink"), dash: "dash", width: 1.5 } });
  const limitName = (axis) => ({ text: "limit", showarrow: false, x: 1, y: 1, font: { size: 11 }, bgcolor: color("paper"), opacity: 0.8,
    [axis === "x" ? "yref" : "xref"]: "paper", xanchor: axis === "x" ? "left" : "right", yanchor: axis === "x" ? "top" : "bottom" });
  const limit = (axis) => ({ shapes: [limitLine(axis)], annotations: [limitName(axis)] });

  function chart(id, traces, layout) {
    const axis = { gridcolor: color("line"), zerolinecolor: color("line"), linecolor: color("line"),
                   automargin: true, exponentformat: "power" };
    const whole = { paper_bgcolor: color("paper"), plot_bgcolor: color("paper"),
      font: { color: color("ink"), size: 12 }, margin: { l: 55, r: 15, t: 10, b: 45 }, hovermode: "closest",
      legend: { orientation: "h", y: -0.25, itemsizing: "constant" }, ...layout };
    for (const name of Object.keys(whole).filter((key) => /^[xy]axis/.test(key))) {
      whole[name] = { ...axis, ...whole[name] };
    }
    // What one has zoomed to stays while the sweep goes on.
    whole.uirevision = [state.group, state.task, id === "score" ? state.hyperparameter : null, id === "metrics" ? state.metric : null].join();
    const place = charts.get(id);
    if (!place) return;
    place.pending = () => Plotly.react(place, traces, whole, { displaylogo: false, responsive: true });
    if (place.inSight) { enqueue(place); setTimeout(drawWaiting); } else sight.observe(place);
  }
  // Charts take most of a page's time, and their library the most before the first of them. Text and
  // tables do not wait for either; charts are drawn when they come near, one at a time, those that
  // one sees first.
  const charts = new Map(), waiting = new Set();
  const library = () => document.getElementById("library");
  function drawNow(place) {
    waiting.delete(place);
    const pending = place.pending;
    place.pending = null;
    if (pending) { pending(); place.drawn = true; }
  }
  function farness(place) {
    const { top, bottom } = place.getBoundingClientRect();
    return Math.max(top - window.innerHeight, -bottom, 0);
  }
  function enqueue(place) {
    waiting.add(place);
    delete document.body.dataset.charts;
  }
  function drawWaiting() {
    if (!waiting.size) {
      const all = [...charts.values()];
      if (all.length && all.every((place) => place.inSight !== undefined)) document.body.dataset.charts = "drawn";
      return;
    }
    if (!window.Plotly) readLibrary();
    if (!window.Plotly) return;
    setTimeout(drawWaiting);  // whatever becomes of this one
    drawNow([...waiting].map((place) => [place, farness(place)]).reduce((one, other) => other[1] < one[1] ? other : one)[0]);
  }
  // In a page without a server the library is text until the first picture is there.
  function readLibrary() {
    if (served || window.Plotly || !library()) return;
    document.head.append(element("script", {}, library().textContent));
  }
  if (served && library()) {
    library().addEventListener("load", drawWaiting);
    library().addEventListener("error", () => say("the charts' library cannot be fetched; load the page again"));
  }
  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      target.inSight = isIntersecting;
      if (!isIntersecting) waiting.delete(target); else if (target.pending) enqueue(target);
    }
    setTimeout(drawWaiting);
  }, { rootMargin: "400px" });
  window.addEventListener("beforeprint", () => {
    readLibrary();
    if (window.Plotly) [...charts.values()].forEach(drawNow);
  });
  function figure(id, caption, wide, extra) {
    if (!charts.has(id)) charts.set(id, element("div", { class: "chart", id }));
    return element("figure", { class: wide ? "wide" : null },
      element("figcaption", {}, caption, extra || null), charts.get(id));
  }
  const costAxis = { title: { text: "normalized cost" }, rangemode: "tozero" };
  const stepsAxis = (text) => ({ ...axisTitle(text), exponentformat: "SI", rangemode: "tozero" });
  const axisTitle = (text) => ({ title: { text: escaped(text) } });

  // ---- a sweep --------------------------------------------------------------------------------
  function settingsOf(group, place) {
    return Object.entries(group.hyperparameters)
      .filter(([, column]) => column.values[place] !== null)
      .map(([name, column]) => `${name}=${shown(column.values[place])}`);
  }
  function cellsOf(group, place) {
    const cells = { config_id: group.config_id[place], reward: group.reward[place],
      reward_deviation: group.reward_deviation[place], cost: group.cost[place],
      cost_deviation: group.cost_deviation[place], seeds: group.seeds[place] };
    for (const [name, column] of Object.entries(group.hyperparameters)) cells[name] = column.values[place];
    return cells;
  }
  // `cost<1 learning_rate>=0.001 huber`: comparisons of columns, and words that a row has to have.
  function filtered(group) {
    const problems = [];
    const tests = state.filter.split(/\s+/).filter(Boolean).map((word) => {
      const parts = /^([^<>=]+)(<=|>=|=|<|>)(.+)$/.exec(word);
      if (!parts) return (cells) => Object.entries(cells).some(([, v]) => String(v).includes(word));
      const [, name, sign, wanted] = parts;
      if (!(name in cellsOf(group, 0))) { problems.push(`no column is called ${name}`); return () => true; }
      const number = Number(wanted);
      return (cells) => {
        const value = cells[name];
        if (value === null) return false;
        if (sign === "=") return isNumber(value) && !Number.isNaN(number) ? value === number : String(value) === wanted;
        return { "<": value < number, ">": value > number, "<=": value <= number, ">=": value >= number }[sign];
      };
    });
    const places = group.config_id.map((_, place) => place).filter((place) =>
      (!state.safeOnly || group.safe[place]) && tests.every((test) => test(cellsOf(group, place))));
    return { places, problems };
  }

  function bar(counts, planned, running) {
    const parts = [...Object.entries(counts), ["running", running || 0]].filter(([, count]) => count);
    return element("div", { class: "bar", role: "img",
      "aria-label": parts.map(([name, count]) => `${count} ${name}`).join(", ") + ` of ${planned}` },
      parts.map(([name, count]) => {
        const part = element("span", { class: name, title: `${count} ${name}` });
        part.style.width = `${100 * count / Math.max(1, planned)}%`;
        return part;
      }));
  }
  function showStanding() {
    const { heading, remark, counts, planned, running } = state.standing;
    document.getElementById("standing").textContent = heading + (remark ? `; ${remark}` : "");
    document.getElementById("bar").replaceChildren(bar(counts, planned, running));
    document.getElementById("tasks").replaceChildren(tasksTable(state.standing));
  }

  function labels({ tags, note }) {
    const parts = [...tags.map((tag) => [element("span", { class: "tag" }, tag), " "]), note || null].flat().filter(Boolean);
    return parts.length ? element("div", { class: "labels" }, parts) : null;
  }

  function tasksTable(standing) {
    const columns = ["method", "task", "done", "running", "failed", "diverged"].map((key) => ({ key, title: key }));
    columns.push({ key: "steps_per_second", title: "steps/s" }, { key: "left", title: "left" });
    const whole = table(columns, standing.tasks.map((cells) => ({ cells })), { id: "task-table", all: true });
    const trials = standing.trials.map((trial) => `${trial.algorithm} on ${trial.task}: ${trial.runs} runs at step `
      + `${trial.step} of ${trial.steps}, ${trial.condition}${trial.rate ? ` at ${trial.rate.toPrecision(3)} steps/s` : ""} on ${trial.host}`);
    return fold("tasks", standing.running > 0, "Methods and tasks", whole,
      trials.length ? element("ul", {}, trials.map((text) => element("li", {}, text))) : null);
  }

  function sweepPage() {
    const counts = Object.entries(content.counts).filter(([, count]) => count)
      .map(([name, count]) => `${count} ${name}`).join(", ") || "none has ended";
    const group = content.groups[Math.min(state.group, content.groups.length - 1)];
    const parts = [
      served ? element("nav", {}, element("a", { href: "/" }, "All sweeps")) : null,
      element("h1", {}, content.sweep), labels(content),
      element("p", { id: "standing", role: "status" }, `${content.status}, created ${content.created}. `
        + `${content.planned} runs: ${counts}. ${shown(content.hours)} hours of training and evaluation.`),
      element("div", { id: "bar" }, bar(content.counts, content.planned)),
      element("div", { id: "tasks" }),
      element("h2", {}, "The choice, by ", content.rules
        ? element("select", { id: "rule", "aria-label": "rule",
            onchange: (event) => { location.search = new URLSearchParams({ rule: event.target.value }); } },
            content.rules.map((rule) => element("option", { value: rule, selected: rule === content.rule }, rule)))
        : content.rule),
      element("p", { class: "faint" }, `The choice ${content.goal}.`),
      content.choices.length ? content.choices.map((choice) => element("div", { class: "choice" },
        element("strong", {}, choice.label), choice.config_id ? ` ${choice.config_id}` : "",
        choice.config_id && !choice.safe ? element("span", { class: "unsafe" }, " (not safe)") : null,
        choice.config_id ? `: reward ${shown(choice.reward)}, cost ${shown(choice.cost)}, ${choice.seeds} ${choice.seeds === 1 ? "seed" : "seeds"}` : "",
        element("div", {}, `${choice.reason}.`),
        element("div", {}, Object.entries(choice.settings).map(([name, value]) =>
          [element("code", {}, `${name}=${shown(value)}`), " "]))))
        : element("p", {}, "Nothing has been evaluated yet."),
    ];
    const beside = group ? content.groups.filter((other) => other.task === group.task) : [];
    if (beside.length > 1) {
      parts.push(element("h2", {}, `Methods on ${group.task}`), figure("methods", "Reward against cost; chosen ones large, fronts as lines", true));
    }
    if (content.codes) parts.push(element("p", {}, `Beware: ${content.codes}.`));
    if (group) parts.push(...groupParts(group));
    if (content.failures.length) parts.push(...failureParts());
    parts.push(element("h2", {}, "How it was made"), element("pre", {}, content.specification),
      element("p", {}, `Code ${content.code_versions.join(", ")}; data ${content.datasets.join(", ")}. This page: `,
        element("code", {}, content.command)));
    showParts(...parts.flat().filter(Boolean));
    if (state.standing) showStanding();
    if (beside.length > 1) {
      drawBeside("methods", beside.map((other) => [other.label.replace(` on ${other.task}`, ""), other]));
    }
    if (group) drawGroup();
  }

  function groupParts(group) {
    const names = Object.keys(group.hyperparameters);
    if (!names.includes(state.hyperparameter)) {
      state.hyperparameter = group.importance.name && group.importance.name[0] || names[0] || null;
    }
    const select = (label, id, values, chosen, onchange) => element("label", {}, label,
      element("select", { id, onchange }, values.map(([value, text]) =>
        element("option", { value, selected: value === chosen }, text))));
    const redraw = () => drawGroup();
    return [
      element("h2", {}, "Configurations"),
      element("div", { class: "controls" },
        content.groups.length > 1 ? select("Method and task", "group",
          content.groups.map((other, place) => [String(place), other.label]), String(content.groups.indexOf(group)),
          (event) => { state.group = Number(event.target.value); sweepPage(); })
          : element("span", {}, group.label),
        element("label", {}, "Filter", element("input", { type: "search", id: "filter", value: state.filter,
          placeholder: "cost<1 learning_rate>0.001 word", oninput: (event) => { state.filter = event.target.value; redraw(); } })),
        element("label", {}, element("input", { type: "checkbox", id: "safe-only", checked: state.safeOnly,
          onchange: (event) => { state.safeOnly = event.target.checked; redraw(); } }), "within the limit"),
        element("span", { id: "matching", class: "faint", role: "status" })),
      element("div", { class: "charts" },
        figure("front", "Reward against cost"),
        figure("reward-curve", "Reward while training"),
        figure("cost-curve", "Cost while training"),
        names.length ? figure("score", "Score against a hyperparameter ", false,
          element("select", { id: "hyperparameter", "aria-label": "hyperparameter",
            onchange: (event) => { state.hyperparameter = event.target.value; redraw(); } },
            names.map((name) => element("option", { value: name, selected: name === state.hyperparameter }, name)))) : null,
        group.importance.name.length ? figure("importance", "Importance of hyperparameters (PED-ANOVA)") : null,
        group.budget.reward.some((value) => value !== null) ? figure("budget", "Best safe reward so far")
          : element("p", { class: "faint" }, "No whole configuration keeps the limit yet."),
        names.length ? figure("parallel", "Parallel coordinates", true) : null),
      element("p", { class: "faint" }, "Normalized scores at the last evaluation, means and standard deviations over seeds; "
        + "a cost of at most 1 is within the limit. Charts show what the filter leaves."),
      element("div", { id: "configurations" }),
    ];
  }

  function drawGroup() {
    const group = content.groups[Math.min(state.group, content.groups.length - 1)];
    const { places, problems } = filtered(group);
    const kept = new Set(places);
    document.getElementById("matching").textContent = problems.length ? problems.join("; ")
      : `${places.length} of ${group.config_id.length}`;
    drawTable(group, places);
    const label = (place) => escaped(`${group.config_id[place]}${group.chosen[place] ? ", the chosen one" : ""}`) + "<br>"
      + settingsOf(group, place).map(escaped).join("<br>");
    const plain = places.filter((place) => !group.chosen[place]);
    const chosen = places.filter((place) => group.chosen[place]);
    const at = (list, some) => some.map((place) => list[place]);
    const marks = (some, name, shade, symbol, size) => ({ type: "scatter", mode: "markers", name,
      x: at(group.cost, some), y: at(group.reward, some), text: some.map(label),
      hovertemplate: "%{text}<br>cost %{x:.3g}, reward %{y:.3g}<extra></extra>",
      cliponaxis: false, marker: { color: color(shade), symbol, size, opacity: some.length > 200 ? 0.8 : 1 } });
    const runs = group.run_points.place.map((_, number) => number).filter((number) => kept.has(group.run_points.place[number]));
    const front = places.filter((place) => group.front[place]).sort((a, b) => group.cost[a] - group.cost[b]);
    chart("front", [
      { type: "scatter", mode: "markers", name: "a run", x: at(group.run_points.cost, runs), y: at(group.run_points.reward, runs),
        marker: { color: color("run"), size: 3, opacity: runs.length > 1000 ? 0.4 : 1 }, hoverinfo: "skip" },
      marks(plain, "mean of a configuration", "configuration", "circle", places.length > 60 ? 5 : 8),
      { type: "scatter", mode: "lines", name: "front", x: at(group.cost, front), y: at(group.reward, front),
        line: { color: color("front"), shape: "hv" }, hoverinfo: "skip" },
      marks(chosen, "the chosen one", "chosen", "diamond", 12),
    ], { xaxis: costAxis, yaxis: axisTitle("normalized reward"), ...limit("x") });
    for (const score of ["reward", "cost"]) {
      const grey = { type: "scatter", mode: "lines", name: "a configuration", x: [], y: [], text: [], connectgaps: false,
        line: { color: color("run"), width: 1 }, opacity: Math.max(0.3, Math.min(0.8, 40 / places.length)), hoverinfo: "skip" };
      const traces = [grey];
      for (const curve of group.curves) {
        if (!kept.has(curve.place)) continue;
        if (group.chosen[curve.place]) {
          traces.push({ type: "scatter", mode: "lines+markers", name: "the chosen one", x: curve.step, y: curve[score],
            error_y: { type: "data", array: curve[score + "_deviation"], thickness: 1 }, line: { color: color("chosen") } });
        } else {
          grey.x.push(...curve.step, null); grey.y.push(...curve[score], null);
        }
      }
      chart(score + "-curve", traces, { xaxis: stepsAxis("gradient steps"), yaxis: score === "cost" ? costAxis : axisTitle("normalized reward"),
        ...score === "cost" ? limit("y") : {} });
    }
    drawHyperparameter(group, plain, chosen, label, at);
    if (group.importance.name.length) {
      const names = group.importance.name.map(escaped);
      chart("importance", [["cost", "chosen"], ["reward", "configuration"]].map(([score, shade]) =>
        ({ type: "bar", orientation: "h", name: "for the " + score, y: names, x: group.importance[score],
           marker: { color: color(shade) } })),
        { xaxis: axisTitle("share"), yaxis: { autorange: "reversed" }, barmode: "group" });
    }
    chart("budget", [{ type: "scatter", mode: "lines", name: "best safe reward", x: group.budget.gradient_steps,
      y: group.budget.reward, line: { shape: "hv", color: color("configuration") } }],
      { xaxis: stepsAxis("gradient steps of all runs so far"), yaxis: axisTitle("normalized reward"), showlegend: false });
    drawParallel(group, places);
  }

  function drawHyperparameter(group, plain, chosen, label, at) {
    const column = group.hyperparameters[state.hyperparameter];
    if (!column) return;
    const traces = [];
    for (const [score, axis] of [["reward", "y"], ["cost", "y2"]]) {
      for (const [some, shade, name] of [[plain, "configuration", "a configuration"], [chosen, "chosen", "the chosen one"]]) {
        traces.push({ type: "scatter", mode: "markers", name, showlegend: score === "reward",
          x: at(column.values, some).map((value) => isNumber(value) ? value : value === null ? null : escaped(value)), y: at(group[score], some), yaxis: axis, text: some.map(label),
          hovertemplate: `%{text}<br>${score} %{y:.3g}<extra></extra>`,
          // Of many, bars would hide the points and take the most of a page's time.
          error_y: { type: "data", array: at(group[score + "_deviation"], some), thickness: 0.7, width: 0,
            visible: plain.length <= 100 },
          marker: { color: color(shade), size: some === chosen ? 9 : 5, symbol: some === chosen ? "diamond" : "circle" } });
      }
    }
    chart("score", traces, { xaxis: { ...axisTitle(state.hyperparameter), type: column.axis, anchor: "y2" },
      yaxis: { ...axisTitle("reward"), domain: [0.54, 1] }, yaxis2: { ...axisTitle("cost"), domain: [0, 0.46], rangemode: "tozero" },
      shapes: [limitLine("y", "y2")] });
  }

  function drawParallel(group, places) {
    const names = Object.keys(group.positions);
    if (names.length < 3) return;
    const rewards = places.map((place) => group.reward[place]).filter((value) => value !== null);
    const low = Math.min(...rewards), high = Math.max(...rewards);
    const bins = new Map(), scale = shades();
    const key = (place) => group.chosen[place] ? "chosen" : !group.safe[place] ? "unsafe"
      : high > low ? Math.min(scale.length - 1, Math.floor(scale.length * (group.reward[place] - low) / (high - low))) : 0;
    for (const place of places) bins.set(key(place), [...(bins.get(key(place)) || []), place]);
    const order = ["unsafe", ...scale.keys(), "chosen"].filter((bin) => bins.has(bin));
    const traces = order.map((bin) => {
      const trace = { type: "scatter", mode: "lines", x: [], y: [], hoverinfo: "skip", showlegend: typeof bin === "string" || bin === scale.length - 1 || bin === 0,
        name: bin === "chosen" ? "the chosen one" : bin === "unsafe" ? "breaks the limit"
          : high === low ? "within the limit" : bin === 0 ? "lowest reward" : "highest reward",
        line: { width: bin === "chosen" ? 3 : 1, color: bin === "chosen" ? color("chosen") : bin === "unsafe" ? color("run") : scale[bin] },
        opacity: bin === "unsafe" ? 0.5 : 1 };
      for (const place of bins.get(bin)) {
        trace.x.push(...names.keys(), null);
        trace.y.push(...names.map((name) => group.positions[name][place]), null);
      }
      return trace;
    });
    const ends = names.map((name) => {
      const values = (group.hyperparameters[name] ? group.hyperparameters[name].values : group[name]).filter((value) => value !== null);
      const sorted = values.every(isNumber) ? [...values].sort((a, b) => a - b) : [...new Set(values.map(String))].sort();
      return [sorted[0], sorted[sorted.length - 1]];
    });
    const annotations = ends.flatMap(([least, most], place) => [[least, -0.07], [most, 1.07]].map(([value, y]) =>
      ({ x: place, y, text: escaped(shown(value)), showarrow: false, font: { size: 11 } })));
    chart("parallel", traces, { annotations, xaxis: { tickvals: [...names.keys()], ticktext: names.map(escaped), zeroline: false },
      yaxis: { range: [-0.14, 1.14], showticklabels: false, showgrid: false, zeroline: false } });
  }

  function drawTable(group, places) {
    const columns = [
      { key: "config_id", title: "configuration", draw: (value, row) => group.chosen[row.place] ? `${value} (chosen)` : value },
      { key: "reward", title: "reward" }, { key: "reward_deviation", title: "± reward" },
      { key: "cost", title: "cost", warn: (row) => !group.safe[row.place] }, { key: "cost_deviation", title: "± cost" },
      { key: "seeds", title: "seeds", draw: (value, row) => served
        ? group.runs[row.place].map(([seed, run]) => [runLink(run, seed), " "]) : shown(value) },
      ...Object.keys(group.hyperparameters).map((name) => ({ key: name, title: name })),
    ];
    const rows = places.map((place) => ({ place, cells: cellsOf(group, place), mark: group.chosen[place] ? "chosen" : null }));
    if (state.sort.column === null) {
      // The chosen one, then those within the limit from the best, then the others from the cheapest.
      const rank = ({ place }) => group.chosen[place] ? [0, 0] : group.safe[place] ? [1, -group.reward[place]]
        : [2, group.cost[place] === null ? Infinity : group.cost[place]];
      rows.sort((a, b) => rank(a)[0] - rank(b)[0] || rank(a)[1] - rank(b)[1]);
    } else {
      const { column, descending } = state.sort;
      rows.sort((a, b) => {
        const [one, other] = [a.cells[column], b.cells[column]];
        if (one === null || other === null) return (one === null) - (other === null);
        const order = isNumber(one) && isNumber(other) ? one - other : String(one).localeCompare(String(other));
        return descending ? -order : order;
      });
    }
    const onsort = (column) => {
      state.sort = { column, descending: state.sort.column === column ? !state.sort.descending : false };
      drawTable(group, places);
    };
    document.getElementById("configurations").replaceChildren(table(columns, rows, { id: "table", sort: state.sort, onsort }));
  }

  function failureParts() {
    const columns = [{ key: "run_id", title: "run", draw: (value) => runLink(value, value) }, { key: "task", title: "task" },
      { key: "seed", title: "seed" }, { key: "status", title: "status" }, { key: "steps", title: "steps" },
      { key: "error", title: "error", text: true, draw: (value, row) => row.cells.traceback
        ? fold(row.cells.run_id, false, shown(value), element("pre", {}, row.cells.traceback)) : shown(value) }];
    return [element("h2", { id: "failures" }, "Runs that did not complete"),
      table(columns, content.failures.map((cells) => ({ cells })), { id: "failed-runs" }),
      content.failures_left_out ? element("p", { class: "faint" }, `and ${content.failures_left_out} more`) : null];
  }

  // ---- the other pages ------------------------------------------------------------------------
  function listPage() {
    const columns = [
      { key: "sweep", title: "sweep", draw: (value, row) =>
        [element("a", { href: sweepUrl(value) }, value), labels(row.cells)] },
      { key: "status", title: "status" }, { key: "progress", title: "progress", draw: (_, row) => bar(row.counts, row.cells.runs) },
      { key: "runs", title: "runs" }, ...["completed", "stopped", "diverged", "failed"].map((key) => ({ key, title: key })),
      { key: "created", title: "created" },
      { key: "compare", title: "compare", draw: (_, row) => element("input", { type: "checkbox", name: "sweep",
        value: row.cells.sweep, checked: state.marked.has(row.cells.sweep), autocomplete: "off",
        onchange: (event) => { if (event.target.checked) state.marked.add(row.cells.sweep); else state.marked.delete(row.cells.sweep); },
        "aria-label": `compare ${row.cells.sweep}` }) }];
    const rows = content.sweeps.map((sweep) => ({ cells: { ...sweep, ...sweep.counts }, counts: sweep.counts }));
    showParts(element("h1", {}, "Sweeps"), element("p", { class: "faint" }, content.storage),
      rows.length ? element("form", { action: "/compare" }, table(columns, rows, { id: "sweeps", all: true }),
        element("p", {}, element("button", {}, "Compare the marked ones")))
        : element("p", {}, "This store holds no sweep yet."));
  }

  function comparisonPage() {
    const tasks = [...new Set(content.parts.flatMap((part) => part.groups.map((group) => group.task)))].sort();
    if (!tasks.includes(state.task)) state.task = tasks[0] || null;
    const columns = [{ key: "sweep", title: "sweep", draw: (value) => element("a", { href: sweepUrl(value) }, value) },
      { key: "label", title: "choice" }, { key: "config_id", title: "configuration" },
      { key: "reward", title: "reward" }, { key: "cost", title: "cost", warn: (row) => !row.cells.safe },
      { key: "seeds", title: "seeds" }, { key: "settings", title: "settings", text: true }, { key: "reason", title: "reason", text: true }];
    const rows = content.parts.flatMap((part) => part.choices.map((choice) => ({ cells: { ...choice, sweep: part.sweep,
      settings: Object.entries(choice.settings).map(([name, value]) => `${name}=${shown(value)}`).join(", ") } })));
    showParts(element("nav", {}, element("a", { href: "/" }, "All sweeps")),
      element("h1", {}, "Comparison of " + content.parts.map((part) => part.sweep).join(", ")),
      element("div", { class: "controls" }, element("label", {}, "Task", element("select", { id: "task",
        onchange: (event) => { state.task = event.target.value; comparisonPage(); } },
        tasks.map((task) => element("option", { value: task, selected: task === state.task }, task))))),
      figure("comparison", "Reward against cost; chosen ones large, fronts as lines", true),
      element("h2", {}, "What was chosen"), table(columns, rows, { id: "choices", all: true }));
    drawBeside("comparison", content.parts.flatMap((part) => part.groups.filter((group) => group.task === state.task)
      .map((group) => [`${part.sweep}: ${group.label}`, group])));
  }

  // Configurations of several groups in one chart: each its colour, its front, its choice large.
  function drawBeside(id, named) {
    const palette = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#888888"];
    const traces = named.flatMap(([name, group], number) => {
      const shade = palette[number % palette.length];
      const places = group.config_id.map((_, place) => place);
      const front = places.filter((place) => group.front[place]).sort((a, b) => group.cost[a] - group.cost[b]);
      return [
        { type: "scatter", mode: "markers", name: escaped(name), x: group.cost, y: group.reward, text: group.config_id.map(escaped),
          cliponaxis: false, hovertemplate: "%{text}<br>cost %{x:.3g}, reward %{y:.3g}", marker: { color: shade, opacity: 0.8, line: { width: 0 },
            size: places.map((place) => group.chosen[place] ? 13 : 5), symbol: places.map((place) => group.chosen[place] ? "diamond" : "circle") } },
        { type: "scatter", mode: "lines", showlegend: false, hoverinfo: "skip", x: front.map((place) => group.cost[place]),
          y: front.map((place) => group.reward[place]), line: { color: shade, shape: "hv" } },
      ];
    });
    chart(id, traces, { xaxis: costAxis, yaxis: axisTitle("normalized reward"), ...limit("x") });
  }

  function runPage() {
    const facts = (entries, id) => element("table", { id }, element("tbody", {}, Object.entries(entries).map(([name, value]) =>
      element("tr", {}, element("th", { scope: "row" }, name), element("td", { class: "text" },
        name === "sweep" ? element("a", { href: sweepUrl(value) }, value) : shown(value))))));
    const metrics = Object.keys(content.metrics);
    if (!metrics.includes(state.metric)) state.metric = metrics[0] || null;
    const parts = [element("nav", {}, element("a", { href: "/" }, "All sweeps")), element("h1", {}, "Run " + content.run_id),
      content.facts.error ? element("p", { class: "message" }, content.facts.error) : null,
      content.traceback ? [element("h2", {}, "Traceback"), element("pre", {}, content.traceback)] : null,
      content.output ? [element("h2", {}, "Last output of its worker"), element("pre", {}, content.output)] : null,
      element("div", { class: "charts" },
        content.curves.length ? [figure("run-reward", "Reward while training"), figure("run-cost", "Cost while training")] : null,
        content.episode_costs.length ? figure("episodes", "Costs of the last evaluation's episodes") : null,
        metrics.length ? figure("metrics", "Metric ", false, element("select", { id: "metric", "aria-label": "metric",
          onchange: (event) => { state.metric = event.target.value; runPage(); } },
          metrics.map((name) => element("option", { value: name, selected: name === state.metric }, name)))) : null),
      element("h2", {}, "Facts"), facts(content.facts, "facts"),
      element("h2", {}, "Hyperparameters"), facts(content.settings, "settings")];
    showParts(...parts.flat(2).filter(Boolean));
    for (const score of content.curves.length ? ["reward", "cost"] : []) {
      chart("run-" + score, content.curves.map((curve) => ({ type: "scatter", mode: "lines+markers", name: escaped(curve.policy),
        x: curve.step, y: curve[score] })), { xaxis: stepsAxis("gradient steps"), yaxis: score === "cost" ? costAxis : axisTitle("normalized reward"),
        ...score === "cost" ? limit("y") : {} });
    }
    if (content.episode_costs.length) {
      chart("episodes", content.episode_costs.map((part) => ({ type: "bar", name: escaped(part.policy), opacity: 0.7,
        x: part.from.map((from, place) => (from + part.to[place]) / 2), width: part.to.map((to, place) => to - part.from[place]),
        y: part.episodes, text: part.from.map((from, place) => `${shown(from)} to ${shown(part.to[place])}`), textposition: "none",
        hovertemplate: "cost %{text}: %{y} episodes" })),
        { xaxis: axisTitle("cost of an episode"), yaxis: axisTitle("episodes"), barmode: "overlay" });
    }
    if (state.metric !== null) {
      const metric = content.metrics[state.metric];
      chart("metrics", [{ type: "scatter", mode: "lines+markers", x: metric.step, y: metric.value }],
        { xaxis: stepsAxis("gradient steps"), yaxis: axisTitle(state.metric) });
    }
  }

  // ---- where content comes from ---------------------------------------------------------------
  const PAGES = { sweep: sweepPage, sweeps: listPage, comparison: comparisonPage, run: runPage };
  function draw() {
    const focused = document.activeElement && document.activeElement.id;
    const caret = focused === "filter" ? document.activeElement.selectionStart : null;
    const rows = () => document.querySelector("#configurations .scroll");
    const [across, down, within] = [window.scrollX, window.scrollY, rows() ? rows().scrollTop : 0];
    colors.clear();
    // What one has scrolled to has to be there at once.
    rowsAtOnce = within || down ? Infinity : ROWS_AT_ONCE;
    PAGES[content.kind]();
    rowsAtOnce = ROWS_AT_ONCE;
    if (rows()) rows().scrollTop = within;
    window.scrollTo(across, down);
    if (focused && document.getElementById(focused)) {
      document.getElementById(focused).focus();
      if (caret !== null) document.getElementById(focused).setSelectionRange(caret, caret);
    }
    document.body.dataset.drawn = content.kind;
  }
  function say(message) {
    let place = document.getElementById("problem");
    if (!message) { if (place) place.remove(); return; }
    if (!place) { place = element("p", { id: "problem", class: "message", role: "alert" }); document.body.prepend(place); }
    place.textContent = message;
  }
  async function fetched(url, tag) {
    let response;
    try {
      response = await fetch(url, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    } catch (problem) {
      throw new Error("the server does not answer; asking again");
    }
    if (response.status === 304) return { tag, value: null };
    const value = await response.json();
    if (!response.ok) throw new Error(value.problem || `the server says ${response.status}`);
    return { tag: response.headers.get("ETag"), value };
  }
  async function follow() {
    let tag = null, over = false;
    const wait = () => new Promise((resolve) => setTimeout(resolve, REFRESH_MS));
    for (;;) {
      try {
        const answer = await fetched(page.dataset.url, tag);
        tag = answer.tag;
        if (answer.value) { content = answer.value; draw(); }
        if (page.dataset.statusUrl) {
          const { value } = await fetched(page.dataset.statusUrl, null);
          state.standing = value;
          showStanding();
        }
        say(null);
      } catch (problem) {
        say(problem.message);
        over = content && content.kind === "run";
      }
      if (over || (content && !["sweep", "sweeps"].includes(content.kind))) return;
      do { await wait(); } while (document.hidden);
    }
  }
  dark.addEventListener("change", () => content && draw());
  if (served) follow();
  else { content = JSON.parse(document.getElementById("content").textContent); draw(); }
})();
