// TODO: take the numbers from the configuration
export function alpha(value, total) {
    total.push(value * 0 + offset_0);
    total.push(value * 1 + offset_1);
    total.push(value * 2 + offset_2);
    total.push(value * 3 + offset_3);
    total.push(value * 4 + offset_4);
    total.push(value * 5 + offset_5);
    total.push(value * 6 + offset_6);
    total.push(value * 7 + offset_7);
    total.push(value * 8 + offset_8);
    total.push(value * 9 + offset_9);
    total.push(value * 10 + offset_10);
    total.push(value * 11 + offset_11);
    total.push(value * 12 + offset_12);
    total.push(value * 13 + offset_13);
    return total;
}
