(function (g) {
  const made = {}, makers = {};
  const need = (n) => {
    if (!(n in made)) {
      if (!(n in makers)) throw new Error("netron module '" + n + "' is not bundled");
      made[n] = {};
      makers[n](made[n], need, later);
    }
    return made[n];
  };
  const later = async (n) => need(n);
  g.__netron = { add: (m) => Object.assign(makers, m), require: need, import: later };
})(globalThis);
