// Around Netron's layout: in a large graph, what one node sends to several distant ones runs along one shared line.
//
// dagre puts a dummy node on every rank that an edge crosses. A mask that feeds 60 layers is 60 edges, each as long as
// the way to its layer: 600,000 dummy nodes in a graph of 2,500, and a minute of layout (25,000 and 5 s this way). The
// far edges of a node branch off one chain of points without size, so that each rank is crossed once. A graph with
// little to win, one with groups and one with a cycle are laid out as Netron does it.
(plain) => {
const FAR = 4, WORTH = 10000; // ranks: an edge longer than FAR is far; below WORTH in all, dagre needs no help

// Node → its rank, as late as its consumers allow: a shape that only layer 60 reads belongs there, not to the input
// that it is read from. A node nobody reads stays beside its producer. Null where the edges go round.
const ranked = (nodes, out) => {
  const rank = new Map(nodes.map((n) => [n.v, 0])), waits = new Map(rank);
  for (const edges of out.values()) for (const e of edges) waits.set(e.w, waits.get(e.w) + 1);
  const order = nodes.map((n) => n.v).filter((v) => waits.get(v) === 0);
  for (let i = 0; i < order.length; i++) {
    for (const e of out.get(order[i])) {
      rank.set(e.w, Math.max(rank.get(e.w), rank.get(e.v) + e.minlen));
      waits.set(e.w, waits.get(e.w) - 1);
      if (waits.get(e.w) === 0) order.push(e.w);
    }
  }
  if (order.length < nodes.length) return null;
  for (const v of order.reverse()) if (out.get(v).length) rank.set(v, out.get(v).reduce((low, e) => Math.min(low, rank.get(e.w) - e.minlen), Infinity));
  return rank;
};

// Of points in a row on one straight line, the first and the last: far lines are mostly straight, and drawn per point.
const corners = (points) => points.filter((p, i) => {
  const a = points[i - 1], b = points[i + 1];
  return i < 2 || i > points.length - 3 || !(a.x === p.x && p.x === b.x || a.y === p.y && p.y === b.y);
});

return (nodes, edges, layout, state) => {
  const out = new Map(nodes.map((n) => [n.v, []]));
  for (const e of edges) out.get(e.v).push(e);
  const rank = nodes.some((n) => n.parent) ? null : ranked(nodes, out);
  const length = (e) => rank.get(e.w) - rank.get(e.v);
  if (!rank || edges.reduce((sum, e) => sum + length(e), 0) < WORTH) return plain(nodes, edges, layout, state);
  const points = [], reaching = [], ends = [], ways = new Map();
  for (const [v, all] of out) {
    const far = all.filter((e) => length(e) > FAR).sort((a, b) => length(a) - length(b));
    if (far.length < 2) continue;
    let way = [], last = v, reached = rank.get(v);
    for (const e of far) {
      const before = rank.get(e.w) - 1;
      if (before > reached) {
        const point = { v: 'shared-' + points.length, width: 0, height: 0 };
        const line = { v: last, w: point.v, minlen: 1, weight: 1, width: 0, height: 0, labeloffset: 10, labelpos: 'r' };
        points.push(point); reaching.push(line);
        way = [...way, line]; last = point.v; reached = before;
      }
      const end = { ...e, v: last };
      ends.push(end); ways.set(e, [...way, end]);
    }
  }
  plain([...nodes, ...points], [...edges.filter((e) => !ways.has(e)), ...reaching, ...ends], layout, state);
  // Where a line meets the border of a point without size is 0 / 0: it ends in the point.
  points.forEach((point, i) => { const line = reaching[i]; line.points[line.points.length - 1] = { x: point.x, y: point.y }; });
  for (const [e, way] of ways) {
    const end = way[way.length - 1];
    e.points = corners(way.flatMap((line, i) => (i ? line.points.slice(1) : line.points)));
    if ('x' in end) { e.x = end.x; e.y = end.y; } // where its label stands
  }
};
}
