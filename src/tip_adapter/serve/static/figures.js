// Shares in per cent, rounded as Python rounds them: a tie goes to the even digit, where toFixed goes up.

export function figure(share, digits = 0) {
  const value = 100 * share;
  const tie = Math.abs(value * (digits ? 4 : 2)) % 2 === 1; // of one digit only quarters are exact, of none halves
  const down = Math.floor(value * 10 ** digits);
  const rounded = tie ? (down + Math.abs(down % 2)) / 10 ** digits : value;
  return (Number(rounded.toFixed(digits)) || 0).toFixed(digits).replace("-", "−"); // never −0
}

export const percent = (share, digits) => `${figure(share, digits)} %`;
